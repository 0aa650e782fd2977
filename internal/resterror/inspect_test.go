package resterror_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/b24go/b24oauth/internal/resterror"
)

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

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

func TestInspectedBodyReachesTheCallerWhole(t *testing.T) {
	const expired = `{"error":"expired_token","error_description":"The access token provided has expired."}`
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
		{name: "compressed", encoding: "GZIP", body: gzipped(t, expired), want: resterror.Refused, closed: true},
		{name: "called compressed", encoding: "gzip", body: expired, want: resterror.Ambiguous, closed: true},
		{name: "identity", encoding: "identity", body: expired, want: resterror.Refused, closed: true},
		{name: "of an unknown encoding", encoding: "br", body: expired, want: resterror.Ambiguous, closed: true},
		{name: "broken off after the code", body: expired, end: broken, want: resterror.Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := &closing{Reader: strings.NewReader(c.body)}
			if c.end != nil {
				body.Reader = io.MultiReader(body.Reader, iotest.ErrReader(c.end))
			}
			resp := &http.Response{StatusCode: 401, Header: http.Header{}, Body: body}
			if c.encoding != "" {
				resp.Header.Set("Content-Encoding", c.encoding)
			}
			got, code := resterror.Inspect(resp)
			if got != c.want || (code == "expired_token") != (c.want == resterror.Refused) {
				t.Errorf("verdict %v, code %q; want verdict %v", got, code, c.want)
			}
			if body.closed != c.closed {
				t.Errorf("closed: %v", body.closed)
			}
			left, err := io.ReadAll(resp.Body)
			if string(left) != c.body || !errors.Is(err, c.end) {
				t.Errorf("%d bytes are left and %v, want %d and %v", len(left), err, len(c.body), c.end)
			}
			if resp.Body.Close(); !body.closed {
				t.Error("the caller's Close did not close it")
			}
		})
	}
	if got, _ := resterror.Inspect(&http.Response{StatusCode: 401}); got != resterror.Ambiguous {
		t.Errorf("without a body: %v", got)
	}
}
