package outgoing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

var toPortal = address.Portal{Scheme: "https", Host: portal, Path: address.RestPath}

// prepare returns the request that is sent first, and ends the call.
func prepare(t *testing.T, req *http.Request, prompt bool) (*http.Request, error) {
	t.Helper()
	var r outgoing.Request
	r.Init(req, outgoing.Auto, prompt)
	defer r.Finish()
	return r.Prepare(outgoing.NewToken("token"), toPortal)
}

// fromGetBody makes a request whose bodies are closed and counted.
func fromGetBody(t *testing.T, contentType string, length int64, open func() io.Reader) (_ *http.Request, opened *[]*watched) {
	t.Helper()
	opened = new([]*watched)
	req := post(t, contentType, nil)
	req.GetBody = func() (io.ReadCloser, error) {
		w := &watched{Reader: open()}
		*opened = append(*opened, w)
		return w, nil
	}
	req.Body, _ = req.GetBody()
	req.ContentLength = length
	return req, opened
}

func TestBodyThatGetBodyHasIsTheSameWholeAndAsAStream(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 10, 64<<10 - 2, 64 << 10, 64<<10 + 2, 1 << 20} {
		for _, c := range []struct{ contentType, body, want string }{
			{formType, strings.Repeat("f", size), "auth=token&" + strings.Repeat("f", size)},
			{formType, "auth=x&" + strings.Repeat("f", size), "auth=token&======&" + strings.Repeat("f", size)},
			{jsonType, `{"a":"` + strings.Repeat("j", size) + `"}`, `{"a":"` + strings.Repeat("j", size) + `","auth":"token"}`},
			{jsonType, `["` + strings.Repeat("a", size) + `"]`, `["` + strings.Repeat("a", size) + `"]`},
		} {
			for _, length := range []int64{int64(len(c.body)), 0, -1} {
				for name, reader := range map[string]func() io.Reader{
					"as it is":          func() io.Reader { return strings.NewReader(c.body) },
					"half of it a time": func() io.Reader { return iotest.HalfReader(strings.NewReader(c.body)) },
					"its end with it":   func() io.Reader { return iotest.DataErrReader(strings.NewReader(c.body)) },
				} {
					req, opened := fromGetBody(t, c.contentType, length, reader)
					out, err := prepare(t, req, false)
					if err != nil {
						t.Fatal(err)
					}
					another, err := out.GetBody()
					if err != nil {
						t.Fatal(err)
					}
					for i, body := range []io.ReadCloser{out.Body, another} {
						data, err := io.ReadAll(body)
						if err != nil || string(data) != c.want {
							t.Errorf("%s of %d bytes, said to be %d, %s, body %d: %d bytes, %v; want %d", c.contentType, len(c.body), length, name, i+1, len(data), err, len(c.want))
						}
						body.Close()
						body.Close()
					}
					if wantLength := length + int64(len(c.want)-len(c.body)); length > 0 && out.ContentLength != wantLength || length <= 0 && out.ContentLength != length {
						t.Errorf("%s of %d bytes, said to be %d: now said to be %d", c.contentType, len(c.body), length, out.ContentLength)
					}
					if (*opened)[0].closed != 1 {
						t.Errorf("%s of %d bytes, said to be %d, %s: closed %d times", c.contentType, len(c.body), length, name, (*opened)[0].closed)
					}
				}
			}
		}
	}
}

// A body of another length than was said is an error of net/http's, which must
// not be hidden from it.
func TestBodyOfAnotherLengthThanWasSaidStaysSo(t *testing.T) {
	for _, said := range []int64{2, 4, 5, 6, 100} {
		for contentType, body := range map[string]string{formType: "a=123", jsonType: `{"":1}`} {
			req, _ := fromGetBody(t, contentType, said, func() io.Reader { return strings.NewReader(body) })
			out, err := prepare(t, req, false)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(out.Body)
			if err != nil {
				t.Fatal(err)
			}
			if want := out.ContentLength - said; int64(len(data)-len(body)) != want {
				t.Errorf("%s of %d bytes, said to be %d: %d bytes, said to be %d", contentType, len(body), said, len(data), out.ContentLength)
			}
		}
	}
}

func TestBodyThatFailsIsClosedAndItsErrorTold(t *testing.T) {
	broken := errors.New("broken")
	for name, reader := range map[string]io.Reader{
		"at its beginning": iotest.ErrReader(broken),
		"in the middle":    io.MultiReader(strings.NewReader(`{"a":`), iotest.ErrReader(broken)),
	} {
		for _, contentType := range []string{formType, jsonType} {
			req, opened := fromGetBody(t, contentType, 100, func() io.Reader { return reader })
			if _, err := prepare(t, req, false); !errors.Is(err, broken) {
				t.Errorf("%s, %s: %v", contentType, name, err)
			}
			if (*opened)[0].closed != 1 {
				t.Errorf("%s, %s: closed %d times", contentType, name, (*opened)[0].closed)
			}
		}
	}
	req, _ := fromGetBody(t, formType, 3, func() io.Reader { return nil })
	req.Body = unclosable{strings.NewReader("a=1"), broken}
	if _, err := prepare(t, req, false); !errors.Is(err, broken) {
		t.Errorf("Close fails: %v", err)
	}
	req, _ = fromGetBody(t, formType, 3, func() io.Reader { return idle{} })
	if _, err := prepare(t, req, false); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that brings nothing: %v", err)
	}
}

type unclosable struct {
	io.Reader
	err error
}

func (u unclosable) Close() error { return u.err }

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// A body may wait for whoever writes it, and its Close may not end that.
func TestBodyThatKeepsWaitingIsGivenUpWithTheContext(t *testing.T) {
	for name, again := range map[string]bool{"with GetBody": true, "without GetBody": false} {
		for _, contentType := range []string{formType, jsonType} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, w := io.Pipe()
				defer w.Close()
				body := &watched{Reader: r}
				req := post(t, contentType, body).WithContext(ctx)
				if again {
					req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("no") }
				} else if contentType == formType {
					return // nothing of it is read before it is sent
				}
				ended := make(chan error)
				go func() {
					_, err := prepare(t, req, false)
					ended <- err
				}()
				synctest.Wait()
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("%s, %s: %v", contentType, name, err)
				}
				if body.closed != 1 {
					t.Errorf("%s, %s: closed %d times", contentType, name, body.closed)
				}
			})
		}
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("the body's own") }

func TestPanicOfABodyIsTheCallersOwn(t *testing.T) {
	for _, contentType := range []string{formType, jsonType} {
		req, opened := fromGetBody(t, contentType, 3, func() io.Reader { return panicking{} })
		func() {
			defer func() {
				if v := recover(); v != "the body's own" {
					t.Errorf("%s: %v", contentType, v)
				}
			}()
			prepare(t, req, false)
		}()
		if (*opened)[0].closed != 1 {
			t.Errorf("%s: closed %d times", contentType, (*opened)[0].closed)
		}
	}
}

// net/http sends the header of a body that it does not know by itself, in a
// packet more.
func TestBodyWithNothingToBeDoneGoesOnAsItCame(t *testing.T) {
	const other = "multipart/form-data; boundary=x"
	getBody := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
	for _, c := range []struct {
		name, contentType string
		body              io.ReadCloser
		again             bool
		prompt            bool
		header            http.Header
		want              bool
	}{
		{name: "a reader that is known", contentType: other, body: io.NopCloser(strings.NewReader("x")), again: true, want: true},
		{name: "any reader", contentType: other, body: io.NopCloser(iotest.OneByteReader(strings.NewReader("x"))), again: true},
		{name: "a Close of its own", contentType: other, body: &watched{Reader: strings.NewReader("x")}, again: true},
		{name: "bytes, once", contentType: other, body: io.NopCloser(bytes.NewReader([]byte("x"))), prompt: true, want: true},
		{name: "a buffer, once", contentType: other, body: io.NopCloser(bytes.NewBufferString("x")), prompt: true, want: true},
		{name: "JSON that is no object, once", contentType: jsonType, body: io.NopCloser(strings.NewReader("[1]")), prompt: true, want: true},
		{name: "JSON that is no object, once and in a buffer", contentType: jsonType, body: io.NopCloser(bytes.NewBufferString("[1]")), prompt: true, want: true},
		{name: "any reader, once", contentType: other, body: io.NopCloser(iotest.OneByteReader(strings.NewReader("x"))), prompt: true},
		{name: "once, and the portal asks for it", contentType: other, body: io.NopCloser(strings.NewReader("x")), prompt: true, header: http.Header{"expect": {"100-continue"}}},
		{name: "once, through somebody's transport", contentType: other, body: io.NopCloser(strings.NewReader("x"))},
	} {
		req := post(t, c.contentType, nil)
		req.Body = c.body
		for name, values := range c.header {
			req.Header[name] = values
		}
		if c.again {
			req.GetBody = getBody
		}
		out, err := prepare(t, req, c.prompt)
		if err != nil {
			t.Fatal(err)
		}
		if same := out.Body == req.Body; same != c.want {
			t.Errorf("%s: the body goes on as it came: %t, want %t", c.name, same, c.want)
		}
		data, err := io.ReadAll(out.Body)
		if want := "x"; err != nil || string(data) != want && string(data) != "[1]" {
			t.Errorf("%s: %q, %v", c.name, data, err)
		}
		if diff := cmp.Diff(req.ContentLength, out.ContentLength); diff != "" {
			t.Errorf("%s: length (-want +got):\n%s", c.name, diff)
		}
	}
}

// A body that went on as it came may have been read by now, and nobody knows.
func TestBodyThatWentOnAsItCameIsSentAgainFromGetBodyAlone(t *testing.T) {
	for _, again := range []bool{true, false} {
		req := post(t, "text/plain", strings.NewReader("x"))
		if !again {
			req.GetBody = nil
		}
		var r outgoing.Request
		r.Init(req, outgoing.Auto, true)
		for attempt := range 2 {
			out, err := r.Prepare(outgoing.NewToken("token"), toPortal)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(out.Body); err != nil || string(data) != "x" {
				t.Errorf("attempt %d: %q, %v", attempt+1, data, err)
			}
			if got := r.Again(); got != again {
				t.Errorf("attempt %d can be repeated: %t, want %t", attempt+1, got, again)
			}
			if !again {
				break
			}
		}
		r.Finish()
	}
}

// A body that was read would be sent as an empty one otherwise.
func TestGetBodyThatHasNoneIsNoBody(t *testing.T) {
	for _, contentType := range []string{formType, jsonType, "text/plain"} {
		req, _ := fromGetBody(t, contentType, -1, func() io.Reader { return strings.NewReader(`{"a":1}`) })
		req.GetBody = func() (io.ReadCloser, error) { return nil, nil }
		var r outgoing.Request
		r.Init(req, outgoing.Auto, true)
		out, err := r.Prepare(outgoing.NewToken("token"), toPortal)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(out.Body); err != nil {
			t.Fatal(err)
		}
		if r.Again() {
			t.Errorf("%s: can be sent again", contentType)
		}
		r.Finish()
	}
}
