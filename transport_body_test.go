package b24oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// paths are the ways that a request can go through Transport, each over a
// Base that follows the rules.
var paths = []struct {
	name   string
	url    string
	change func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request
	fails  bool
}{
	{name: "success"},
	{name: "query", change: func(_ *program, _ *b24oauth.Transport, req *http.Request) *http.Request {
		req.Method = "PUT"
		return req
	}},
	{name: "JSON", change: asJSON},
	{name: "header", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Placement = b24oauth.PlaceHeader
		req.Header.Set("Authorization", "Bearer own")
		return req
	}},
	{name: "another source", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Source = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "second"})
		return req
	}},
	{name: "another source and an unread body", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Source = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "second"})
		tr.Base = unread(portal("second"), true)
		return req
	}},
	{name: "a former host", url: "https://old.example/rest/m?a=%7e"},
	{name: "replay", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = portal("second")
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(`{"a":"1"}`)), nil }
		return req
	}},
	{name: "refusal of a spent body", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = portal("second")
		return req
	}},
	{name: "refusal of an unread body", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = unread(portal("second"), true)
		return req
	}},
	{name: "refusal of an unread body, closed later", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = unread(portal("second"), false)
		return req
	}},
	{name: "refusal of an unread body of JSON", change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = unread(portal("second"), true)
		return asJSON(p, tr, req)
	}},
	{name: "refusal of an unread body, and no renewal", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		p.FailTokens(9, b24test.Answer{Status: 400, Body: `{"error":"invalid_grant"}`})
		tr.Base = unread(portal("second"), true)
		return req
	}},
	{name: "refusal of an unread body, not closed yet, and no renewal", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		p.FailTokens(9, b24test.Answer{Status: 400, Body: `{"error":"invalid_grant"}`})
		tr.Base = unread(portal("second"), false)
		return req
	}},
	{name: "refusal again", change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = portal("third")
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(`{"a":"1"}`)), nil }
		return req
	}},
	{name: "no renewal", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		p.FailTokens(9, b24test.Answer{Status: 400, Body: `{"error":"invalid_grant"}`})
		tr.Base = portal("second")
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(`{"a":"1"}`)), nil }
		return req
	}},
	{name: "Base fails", fails: true, change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
			req.Body.Close()
			return nil, errors.New("no connection")
		})
		return req
	}},
	{name: "Base fails and closes later", fails: true, change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
			go func() {
				io.ReadAll(req.Body)
				req.Body.Close()
				req.Body.Close()
			}()
			return nil, errors.New("no connection")
		})
		return req
	}},
	{name: "Base returns nothing", fails: true, change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
			req.Body.Close()
			return nil, nil
		})
		return req
	}},
	{name: "Base returns a response and an error", fails: true, change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
			req.Body.Close()
			return answer(200, ""), errors.New("both")
		})
		return req
	}},
	{name: "the body fails where it begins", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		req.Body.(*watched).r = failingReader{errors.New("no file")}
		return asJSON(p, tr, req)
	}},
	{name: "the grant is missing", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Source = p.config.TokenSource("unknown")
		return req
	}},
	{name: "the context has ended", fails: true, change: func(p *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Base = http.DefaultTransport
		ctx, cancel := context.WithCancel(req.Context())
		cancel()
		return req.WithContext(ctx)
	}},
	{name: "no Source", fails: true, change: func(_ *program, tr *b24oauth.Transport, req *http.Request) *http.Request {
		tr.Source = nil
		return req
	}},
	{name: "another host", url: "https://cdn.example/f"},
	{name: "a webhook", url: "https://portal.example/rest/1/s3cret/m"},
	{name: "a redirect to another host", url: "https://cdn.example/f?auth=first", change: func(_ *program, _ *b24oauth.Transport, req *http.Request) *http.Request {
		req.Response = answer(302, "")
		return req
	}},
}

func asJSON(_ *program, _ *b24oauth.Transport, req *http.Request) *http.Request {
	req.Header.Set("Content-Type", jsonType)
	return req
}

// unread refuses the first request without reading its body, which it closes
// at once or when it is asked the second time.
func unread(next roundTripFunc, atOnce bool) roundTripFunc {
	var first io.Closer
	return func(req *http.Request) (*http.Response, error) {
		if first == nil {
			first = req.Body
			if atOnce {
				first.Close()
			}
			return answer(401, expiredBody), nil
		}
		first.Close()
		return next(req)
	}
}

func TestCallersRequestIsLeftAloneAndItsBodyClosedOnce(t *testing.T) {
	for _, c := range paths {
		t.Run(c.name, func(t *testing.T) {
			p := newProgramAt(t, stubPortal)
			g := p.Install()
			g.MemberID, g.ClientEndpoint, g.AccessToken, g.FormerHosts = "own", stubPortal, "first", []string{"old.example"}
			if err := p.config.Save(t.Context(), key, g); err != nil {
				t.Fatal(err)
			}
			tr := p.over(portal(""))
			if c.url == "" {
				c.url = stubPortal + "m?a=%7e&auth=own"
			}
			body := watch(`{"a":"1"}`)
			req := post(t, c.url, formType, body)
			req.ContentLength = 9
			req.Trailer = http.Header{"X-Sum": nil}
			if c.change != nil {
				req = c.change(p, tr, req)
			}
			before := *req
			header, u, trailer := req.Header.Clone(), *req.URL, req.Trailer.Clone()

			resp, err := tr.RoundTrip(req)

			if (err != nil) != c.fails || (resp != nil) == c.fails {
				t.Errorf("response %v and error %v; want an error: %t", resp, err, c.fails)
			}
			if resp != nil {
				if resp.Request != req {
					t.Error("the response is to another request than the caller's")
				}
				resp.Body.Close()
			}
			body.check(t)
			if diff := cmp.Diff(header, req.Header); diff != "" {
				t.Errorf("header (-before +after):\n%s", diff)
			}
			if u != *req.URL || !cmp.Equal(trailer, req.Trailer) {
				t.Errorf("URL or trailer became %v, %v", req.URL, req.Trailer)
			}
			// Funcs are equal to nothing but nil.
			if (before.GetBody == nil) != (req.GetBody == nil) {
				t.Error("GetBody was changed")
			}
			after := *req
			before.GetBody, after.GetBody = nil, nil
			if !reflect.DeepEqual(before, after) || before.Body != after.Body {
				t.Errorf("the request was changed:\n%+v\n%+v", before, after)
			}
		})
	}
}

func TestResponseBesideAnErrorIsClosedAndDropped(t *testing.T) {
	p := newProgram(t)
	p.saveGrant(t, stubPortal)
	for _, url := range []string{stubPortal + "m", "https://cdn.example/f", "https://portal.example/rest/1/s3cret/m"} {
		body := watch("x")
		resp, err := p.over(roundTripFunc(func(*http.Request) (*http.Response, error) {
			resp := answer(200, "")
			resp.Body = body
			return resp, errors.New("both")
		})).RoundTrip(get(t, url))
		if resp != nil || err == nil {
			t.Errorf("%s: %v, %v; want the error alone", url, resp, err)
		}
		body.check(t)
	}
}

func TestEveryBodyFromGetBodyIsClosed(t *testing.T) {
	for _, c := range []struct {
		name  string
		base  http.RoundTripper
		dead  bool
		bytes string
	}{
		{"replay", portal("second"), false, "a=1"},
		{"refusal again", portal("third"), false, "a=1"},
		{"no renewal", portal("second"), true, "a=1"},
	} {
		p := newProgramAt(t, stubPortal)
		if c.dead {
			p.FailTokens(9, b24test.Answer{Status: 400, Body: `{"error":"invalid_grant"}`})
		}
		bodies := []*watched{watch(c.bytes)}
		req := post(t, stubPortal+"m", formType, bodies[0])
		req.GetBody = func() (io.ReadCloser, error) {
			w := watch(c.bytes)
			bodies = append(bodies, w)
			return w, nil
		}
		if resp, err := p.over(c.base).RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		for _, w := range bodies {
			w.check(t)
		}
	}
}

func TestBodyMayBeReadAndClosedAfterTheAnswer(t *testing.T) {
	// HTTP/2 answers while the body is still being sent.
	for _, c := range []struct {
		name, kind    string
		refused, read bool
	}{
		{"form", formType, false, true},
		{"JSON", jsonType, false, true},
		{"other", "text/plain", false, true},
		{"not read at all", "text/plain", false, false},
		{"sent again", "text/plain", true, true},
		{"sent again and not read at all", "text/plain", true, false},
	} {
		p := newProgramAt(t, stubPortal)
		body := watch(`{"a":1}`)
		answered, done := make(chan struct{}), make(chan string)
		late := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			go func() {
				<-answered
				var data []byte
				if c.read {
					var err error
					if data, err = io.ReadAll(req.Body); err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				req.Body.Close()
				req.Body.Close()
				done <- string(data)
			}()
			return answer(200, "{}"), nil
		})
		if c.refused {
			late = unread(late, true)
		}
		resp, err := p.over(late).RoundTrip(post(t, stubPortal+"m", c.kind, body))
		if got := status(t, resp, err); got != 200 {
			t.Errorf("%s: status %d", c.name, got)
		}
		close(answered)
		if got := <-done; c.read != strings.Contains(got, `"a":1`) {
			t.Errorf("%s: %q was read after the answer", c.name, got)
		}
		body.check(t)
	}
}

func TestBodyIsNotReplayedWhileItIsBeingRead(t *testing.T) {
	p := newProgramAt(t, stubPortal)
	r, w := io.Pipe()
	body := watchReader(r)
	done := make(chan error)
	resp, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
		go func() {
			_, err := io.Copy(io.Discard, req.Body)
			req.Body.Close()
			done <- err
		}()
		if _, err := io.WriteString(w, "a=1"); err != nil { // it has read so far
			t.Error(err)
		}
		return answer(401, expiredBody), nil
	})).RoundTrip(post(t, stubPortal+"m", "text/plain", body))
	if err != nil || resp.StatusCode != 401 || text(t, resp) != expiredBody {
		t.Errorf("%v, %v; want the 401, whole", resp, err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Errorf("Base could not read on: %v", err)
	}
	body.check(t)
	if got := token(t, p.source); got != "second" {
		t.Errorf("the token is %q, want it renewed for the next call", got)
	}
}

func TestEndOfTheCallersContextWhileItsBodyKeepsItWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		r, w := io.Pipe()
		defer w.Close()
		body := watchReader(r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp, err := p.client.Transport.RoundTrip(post(t, p.Endpoint()+"m", jsonType, body).WithContext(ctx))
		if resp != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v; want the deadline's error alone", resp, err)
		}
		body.check(t)
	})
}

func TestMalformedRequestsGetAnError(t *testing.T) {
	p := newProgram(t)
	for name, spoil := range map[string]func(*http.Request){
		"no URL":          func(req *http.Request) { req.URL = nil },
		"no Header":       func(req *http.Request) { req.Header = nil },
		"no host":         func(req *http.Request) { req.URL.Host = "" },
		"no such method":  func(req *http.Request) { req.Method = "no such" },
		"no such trailer": func(req *http.Request) { req.Trailer = http.Header{"no such": {"x"}} },
	} {
		for _, base := range []http.RoundTripper{p.base(), nil} {
			body := watch("a=1")
			req := post(t, p.Endpoint()+"m", formType, body)
			spoil(req)
			resp, err := p.over(base).RoundTrip(req)
			if resp != nil || err == nil {
				t.Errorf("%s over %T: %v, %v; want an error alone", name, base, resp, err)
			}
			body.check(t)
		}
	}
}
