package b24oauth_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

// pending is a response whose body has start in it and then neither goes on
// nor ends, until rest is sent.
func pending(code int, start string) (resp *http.Response, rest *io.PipeWriter) {
	r, w := io.Pipe()
	resp = answer(code, "")
	resp.ContentLength, resp.Body = -1, r
	if start != "" {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(start), r), r}
	}
	return resp, w
}

func endlessRefusals(t *testing.T) {
	for _, c := range []struct {
		name, start string
		calls       int
		within      time.Duration
	}{
		{"after its code", expiredBody, 2, 0},
		{"at the code's last letter", `{"error":"expired_token"`, 2, 0},
		{"in XML", "<response><error>expired_token</error>", 2, 0},
		{"after another code", `{"error":"NO_AUTH_FOUND",`, 1, 0},
		{"within its code", `{"error":"expired_to`, 1, 5 * time.Second},
		{"before it begins", "", 1, 5 * time.Second},
		{"in white space", " \r\n", 1, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
				p := newProgramAt(t, stubPortal)
				calls := 0
				resp, rest := pending(401, c.start)
				begun := time.Now()
				got, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
					if calls++; calls > 1 {
						return answer(200, "{}"), nil
					}
					return resp, nil
				})).RoundTrip(post(t, stubPortal+"m", formType, "a=1"))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); calls != c.calls || took > c.within {
					t.Errorf("%d calls after %v, want %d within %v", calls, took, c.calls, c.within)
				}
				if c.calls == 2 { // nobody reads on, and the portal is told
					if _, err := io.WriteString(rest, "x"); err != io.ErrClosedPipe {
						t.Errorf("the refusal was not closed: %v", err)
					}
					return
				}
				go func() {
					io.WriteString(rest, "the rest")
					rest.Close()
				}()
				if body := text(t, got); got.StatusCode != 401 || body != c.start+"the rest" {
					t.Errorf("status %d, body %q", got.StatusCode, body)
				}
			})
		})
	}
	for _, http2 := range []bool{false, true} {
		release := make(chan struct{})
		var calls atomic.Int32
		ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) > 1 {
				return
			}
			w.WriteHeader(401)
			io.WriteString(w, expiredBody)
			http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}))
		ts.EnableHTTP2 = http2
		ts.StartTLS()
		t.Cleanup(ts.Close)
		stop := time.AfterFunc(10*time.Second, func() { close(release) }) // so that a failure does not hang
		p := newProgramAt(t, ts.URL+"/rest/")
		resp, err := p.over(ts.Client().Transport).RoundTrip(get(t, ts.URL+"/rest/m"))
		if got := status(t, resp, err); got != 200 || !stop.Stop() {
			t.Errorf("HTTP/2 %t: status %d, or only when the refusal had ended", http2, got)
		}
	}
}

func otherAnswersAtOnce(t *testing.T) {
	for _, code := range []int{200, 304, 400, 403, 404, 409, 422, 429, 500, 503} {
		for _, start := range []string{"", `{"error":"expired_token"`} {
			synctest.Test(t, func(t *testing.T) {
				p := newProgramAt(t, stubPortal)
				resp, rest := pending(code, start)
				untouched := resp.Body
				begun := time.Now()
				got, err := p.over(roundTripFunc(func(*http.Request) (*http.Response, error) { return resp, nil })).RoundTrip(get(t, stubPortal+"m"))
				if err != nil || got.Body != untouched || time.Since(begun) > 0 {
					t.Errorf("status %d: held back for %v, the body is the portal's: %t, error %v", code, time.Since(begun), got.Body == untouched, err)
				}
				rest.Close()
			})
		}
	}
}

func TestEndOfTheRequestEndsTheBodyOfItsRefusal(t *testing.T) {
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(401)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(portal.Close)
	p := newProgramAt(t, portal.URL+"/rest/")
	client := &http.Client{Transport: &b24oauth.Transport{Source: p.source}, Timeout: 100 * time.Millisecond}
	resp, err := client.Get(portal.URL + "/rest/m")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if timeout, ok := err.(interface{ Timeout() bool }); !ok || !timeout.Timeout() {
		t.Errorf("error %v, want the client's timeout", err)
	}
}
