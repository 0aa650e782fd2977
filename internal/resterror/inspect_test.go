package resterror_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth/internal/resterror"
)

const expired = `{"error":"expired_token","error_description":"The access token provided has expired."}`

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	if inner, ok := c.Reader.(io.Closer); ok {
		return inner.Close()
	}
	return nil
}

func gzipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func refusal(body io.ReadCloser, encoding string) *http.Response {
	resp := &http.Response{StatusCode: 401, Header: http.Header{}, Body: body}
	if encoding != "" {
		resp.Header["content-encoding"] = []string{encoding} // as a Base of the user's may spell it
	}
	return resp
}

func TestInspectedBodyReachesTheCallerWhole(t *testing.T) {
	broken := errors.New("broken off")
	long := expired[:len(expired)-1] + `,"more":"` + strings.Repeat("x", 100<<10) + `"}`
	for _, c := range []struct {
		name, encoding, body string
		end                  error // io.EOF if nil
		want                 resterror.Verdict
		closed               bool
	}{
		{name: "short", body: expired, want: resterror.Refused, closed: true},
		{name: "empty", body: "", want: resterror.Ambiguous, closed: true},
		{name: "longer than what is looked at", body: long, want: resterror.Refused},
		{name: "white space longer than what is looked at", body: strings.Repeat(" ", 65<<10) + expired, want: resterror.Other},
		{name: "compressed", encoding: "GZIP", body: gzipped(t, expired), want: resterror.Refused, closed: true},
		{name: "compressed, and blank", encoding: "gzip", body: gzipped(t, " "), want: resterror.Ambiguous, closed: true},
		{name: "compressed and damaged after the code", encoding: "gzip", body: gzipped(t, expired)[:60] + "\xff\xff\xff\xff", want: resterror.Refused, closed: true},
		{name: "called compressed", encoding: "gzip", body: expired, want: resterror.Ambiguous, closed: true},
		{name: "identity", encoding: "identity", body: expired, want: resterror.Refused, closed: true},
		{name: "of an unknown encoding", encoding: "br", body: expired, want: resterror.Ambiguous, closed: true},
		{name: "broken off after the code", body: expired, end: broken, want: resterror.Refused},
		{name: "broken off before the code", body: expired[:12], end: broken, want: resterror.Other},
		{name: "broken off at once", body: "", end: broken, want: resterror.Other},
		{name: "ended before the code", body: expired[:12], want: resterror.Other, closed: true},
	} {
		for way, reader := range map[string]func(io.Reader) io.Reader{
			"": func(r io.Reader) io.Reader { return r }, ", byte by byte": iotest.OneByteReader, ", with its end": iotest.DataErrReader,
		} {
			t.Run(c.name+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					body := &closing{Reader: strings.NewReader(c.body)}
					if c.end != nil {
						body.Reader = io.MultiReader(body.Reader, iotest.ErrReader(c.end))
					}
					body.Reader = reader(body.Reader)
					resp := refusal(body, c.encoding)
					got, code := resterror.Inspect(t.Context(), resp)
					if got != c.want || (code == "expired_token") != (c.want == resterror.Refused) {
						t.Errorf("verdict %v, code %q; want verdict %v", got, code, c.want)
					}
					synctest.Wait()
					if body.closed.Load() != c.closed {
						t.Errorf("closed: %v", body.closed.Load())
					}
					left, err := io.ReadAll(resp.Body)
					if string(left) != c.body || !errors.Is(err, c.end) {
						t.Errorf("%d bytes are left and %v, want %d and %v", len(left), err, len(c.body), c.end)
					}
					if resp.Body.Close(); !body.closed.Load() {
						t.Error("the caller's Close did not close it")
					}
				})
			})
		}
	}
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		if got, _ := resterror.Inspect(t.Context(), &http.Response{StatusCode: 401, Body: body}); got != resterror.Ambiguous {
			t.Errorf("without a body: %v", got)
		}
	}
}

func TestBodyThatDoesNotEndHoldsNobodyBack(t *testing.T) {
	const v3 = `{"error":{"code":"` + denied + `"`
	for _, c := range []struct {
		name, encoding, start string
		want                  resterror.Verdict
		after                 time.Duration
	}{
		{name: "not a byte", want: resterror.Other, after: 5 * time.Second},
		{name: "the code", start: expired, want: resterror.Refused},
		{name: "the code's last quotation mark", start: `{"error":"expired_token"`, want: resterror.Refused},
		{name: "part of the code", start: `{"error":"expired_tok`, want: resterror.Other, after: 5 * time.Second},
		{name: "another code", start: `{"error":"NO_AUTH_FOUND"`, want: resterror.Other},
		{name: "v3's code", start: v3, want: resterror.Ambiguous},
		{name: "XML", start: "<response><error>expired_token</error>", want: resterror.Refused},
		{name: "HTML", start: "<html>", want: resterror.Other},
		{name: "text", start: "U", want: resterror.Other},
		{name: "white space", start: " \n", want: resterror.Other, after: 5 * time.Second},
		{name: "a byte-order mark", start: "\uFEFF", want: resterror.Other, after: 5 * time.Second},
		{name: "half a byte-order mark", start: "\xEF", want: resterror.Other, after: 5 * time.Second},
		{name: "the code after 40 KiB", start: `{"a":"` + strings.Repeat("x", 40<<10) + `",` + expired[1:], want: resterror.Refused, after: 5 * time.Second},
		{name: "compressed, in the middle", encoding: "gzip", start: gzipped(t, expired)[:60], want: resterror.Refused},
		{name: "compressed, before the code", encoding: "gzip", start: gzipped(t, expired)[:12], want: resterror.Other, after: 5 * time.Second},
		{name: "compressed, within the header", encoding: "gzip", start: gzipped(t, expired)[:5], want: resterror.Other, after: 5 * time.Second},
		{name: "of an unknown encoding", encoding: "br", start: "x", want: resterror.Ambiguous},
	} {
		for _, size := range []int{1, 1 << 20} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, w := io.Pipe()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						for rest := c.start; rest != ""; rest = rest[min(size, len(rest)):] {
							if _, err := io.WriteString(w, rest[:min(size, len(rest))]); err != nil {
								t.Error(err)
							}
						}
					}()
					resp := refusal(r, c.encoding)
					begun := time.Now()
					got, _ := resterror.Inspect(t.Context(), resp)
					if took := time.Since(begun); got != c.want || took > c.after {
						t.Errorf("%d bytes at a time: verdict %v after %v, want %v after %v", size, got, took, c.want, c.after)
					}
					<-sent
					go func() {
						io.WriteString(w, " and the rest")
						w.Close()
					}()
					left, err := io.ReadAll(resp.Body)
					if string(left) != c.start+" and the rest" || err != nil {
						t.Errorf("%d bytes at a time: %q is left, and %v", size, left, err)
					}
				})
			})
		}
	}
	t.Run("white space for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			resp := refusal(&closing{Reader: blanks{}}, "")
			if got, _ := resterror.Inspect(t.Context(), resp); got != resterror.Other || time.Since(begun) > 0 {
				t.Errorf("verdict %v after %v", got, time.Since(begun))
			}
			if n, err := io.CopyN(io.Discard, resp.Body, 1<<20); n != 1<<20 {
				t.Errorf("%d bytes are left, and %v", n, err)
			}
		})
	})
}

// blanks is white space without an end, some of it at a time.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) { return copy(p, "     "), nil }

func TestEndOfAPendingBody(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(resp *http.Response, cancel context.CancelFunc)
		want error
	}{
		"closed":                 {func(resp *http.Response, _ context.CancelFunc) { resp.Body.Close() }, http.ErrBodyReadAfterClose},
		"the request is over":    {func(_ *http.Response, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"closed, and once again": {func(resp *http.Response, _ context.CancelFunc) { resp.Body.Close(); resp.Body.Close() }, http.ErrBodyReadAfterClose},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, _ := io.Pipe()
				resp := refusal(r, "")
				resterror.Inspect(ctx, resp)
				read := make(chan error)
				go func() {
					_, err := resp.Body.Read(make([]byte, 1))
					read <- err
				}()
				synctest.Wait()
				c.end(resp, cancel)
				if err := <-read; !errors.Is(err, c.want) {
					t.Errorf("the waiting Read ends with %v, want %v", err, c.want)
				}
				resp.Body.Close()
			})
		})
	}
	t.Run("the request ends while its answer is inspected", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, _ := io.Pipe()
			resp := refusal(r, "")
			begun := time.Now()
			if got, _ := resterror.Inspect(ctx, resp); got != resterror.Other || time.Since(begun) != time.Second {
				t.Errorf("verdict %v after %v", got, time.Since(begun))
			}
			resp.Body.Close()
		})
	})
}

func TestBodyThatPanicsOrGivesNothingIsAnError(t *testing.T) {
	for name, body := range map[string]io.Reader{"panics": panicking{}, "gives nothing": idle{}} {
		resp := refusal(&closing{Reader: body}, "")
		got, _ := resterror.Inspect(t.Context(), resp)
		_, err := io.ReadAll(resp.Body)
		if got != resterror.Other || err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: verdict %v, error %v", name, got, err)
		}
	}
}

type (
	panicking struct{}
	idle      struct{}
)

func (panicking) Read([]byte) (int, error) { panic("secret") }

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestRestOfABodyTellsWhyTheCallersContextEnded(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	go io.WriteString(w, `{"error":"OTHER","more":"`)
	resp := &http.Response{StatusCode: 401, Header: http.Header{}, Body: r}
	if v, code := resterror.Inspect(ctx, resp); v != resterror.Other || code != "OTHER" {
		t.Errorf("verdict %v, code %q", v, code)
	}
	cause := errors.New("shutting down")
	cancel(cause)
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("reading on: %v; want the cause", err)
	}
	resp.Body.Close()
}
