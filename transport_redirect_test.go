package b24oauth_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// seen is a request as the world outside of the portal saw it.
type seen struct{ URI, Referer, Authorization, Body string }

func watchHost(t *testing.T, handle http.HandlerFunc) (*httptest.Server, *[]seen) {
	t.Helper()
	var requests []seen
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests = append(requests, seen{r.RequestURI, r.Referer(), r.Header.Get("Authorization"), string(body)})
		if handle != nil {
			handle(w, r)
		}
	}))
	t.Cleanup(ts.Close)
	return ts, &requests
}

func tokenAcrossRedirects(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, c := range []struct {
			name      string
			placement b24oauth.Placement
			request   func(url string) *http.Request
		}{
			{"query", b24oauth.PlaceAuto, func(url string) *http.Request { return get(t, url) }},
			{"form", b24oauth.PlaceAuto, func(url string) *http.Request { return post(t, url, formType, "a=1") }},
			{"JSON", b24oauth.PlaceAuto, func(url string) *http.Request { return post(t, url, jsonType, "{}") }},
			{"header", b24oauth.PlaceHeader, func(url string) *http.Request { return get(t, url) }},
		} {
			elsewhere, strangers := watchHost(t, nil)
			portal, calls := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", elsewhere.URL+r.RequestURI)
				w.WriteHeader(code)
			})
			p := newProgramAt(t, portal.URL+"/rest/")
			client := &http.Client{Transport: &b24oauth.Transport{Source: p.source, Placement: c.placement}}
			resp, err := client.Do(c.request(portal.URL + "/rest/download?id=1"))
			status(t, resp, err)
			client.CloseIdleConnections()
			if len(*calls) != 1 || len(*strangers) != 1 {
				t.Fatalf("%d %s: %d calls to the portal and %d elsewhere, want one each", code, c.name, len(*calls), len(*strangers))
			}
			got := (*strangers)[0]
			if got.URI != "/rest/download?id=1" || containsToken(got) || strings.Contains(got.Body, "auth") {
				t.Errorf("%d %s: the stranger saw %+v", code, c.name, got)
			}
		}
	}

	t.Run("a redirect on the same host is not followed by us", func(t *testing.T) {
		for _, location := range []string{"/bitrix/coupon_activation.php", "?a=1", "coupon", "//{host}/bitrix/coupon_activation.php", "http://{host}/x"} {
			p := newProgram(t)
			portal, calls := watchHost(t, nil)
			host := strings.TrimPrefix(portal.URL, "http://")
			location = strings.ReplaceAll(location, "{host}", host)
			redirecting := tripper(func(req *http.Request) (*http.Response, error) {
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err == nil {
					resp.StatusCode, resp.Header = 302, http.Header{"Location": {location}}
				}
				return resp, err
			})
			p.saveGrant(t, portal.URL+"/rest/")
			resp, err := p.over(redirecting).RoundTrip(get(t, portal.URL+"/rest/m"))
			if got := status(t, resp, err); got != 302 || len(*calls) != 1 || len(p.TokenRequests()) != 0 {
				t.Errorf("%s: status %d, %d calls, %d token requests; want 302, 1 and none", location, got, len(*calls), len(p.TokenRequests()))
			}
			if got := resp.Header.Get("Location"); got != location {
				t.Errorf("Location became %q, want %q", got, location)
			}
		}
	})
	t.Run("a token that came along in a redirect is taken out", func(t *testing.T) {
		p := newProgram(t)
		p.saveGrant(t, stubPortal)
		for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})} {
			var went recorder
			tr := &b24oauth.Transport{Source: source, Base: &went}
			req := get(t, "https://cdn.example/f?b=%7e&auth=secret-token&a=1&access_token=own")
			req.Response = answer(302, "")
			req.Response.Request = get(t, stubPortal+"m")
			resp, err := tr.RoundTrip(req)
			status(t, resp, err)
			want := recorder{{"https://cdn.example/f?b=%7e&a=1&access_token=own", "cdn.example", ""}}
			if diff := cmp.Diff(want, went); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if resp.Request != req {
				t.Error("the response is to another request than the caller's")
			}
		}
	})
}

func tokenInNoLocation(t *testing.T) {
	for location, want := range map[string]string{
		"https://cdn.example/f?auth=TOKEN":                          "https://cdn.example/f",
		"https://cdn.example/f?a=%7e&auth=TOKEN&b=1#x":              "https://cdn.example/f?a=%7e&b=1#x",
		"https://cdn.example/f?access_token=TOKEN&auth=own":         "https://cdn.example/f?auth=own",
		"https://cdn.example/TOKEN/f":                               "https://cdn.example/[REDACTED]/f",
		"https://cdn.example/f?back=%2Frest%2Fm%3Fauth%3DTOKEN&b=1": "https://cdn.example/f?back=%2Frest%2Fm%3Fauth%3D[REDACTED]&b=1",
		"https://cdn.example/f#auth=TOKEN":                          "https://cdn.example/f#auth=[REDACTED]",
		"https://TOKEN@cdn.example/f":                               "https://[REDACTED]@cdn.example/f",
		"/rest/m?auth=TOKEN&a=1":                                    "/rest/m?a=1",
		"?auth=TOKEN":                                               "",
		"https://cdn.example:port/%zz?auth=TOKEN&%zz":               "https://cdn.example:port/%zz?%zz",
		"http://[::1?auth=TOKEN":                                    "http://[::1",
		"://\x00?x;auth=TOKEN":                                      "://\x00?x;auth=[REDACTED]",
		"https://cdn.example/f?a=%7e":                               "https://cdn.example/f?a=%7e",
	} {
		p := newProgramAt(t, stubPortal)
		for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "first"})} {
			tr := &b24oauth.Transport{Source: source, Base: tripper(func(*http.Request) (*http.Response, error) {
				resp := answer(302, "")
				resp.Header = http.Header{"Location": {strings.ReplaceAll(location, "TOKEN", "first")}}
				return resp, nil
			})}
			resp, err := tr.RoundTrip(get(t, stubPortal+"m"))
			status(t, resp, err)
			if got := resp.Header.Get("Location"); got != want {
				t.Errorf("%q (%T): Location is %q, want %q", location, source, got, want)
			}
		}
	}
	t.Run("nor in the error about a malformed one", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		client := &http.Client{Transport: p.over(tripper(func(req *http.Request) (*http.Response, error) {
			resp := answer(302, "")
			resp.Header.Set("Location", "http://[::1?"+req.URL.RawQuery)
			return resp, nil
		}))}
		_, err := client.Get(stubPortal + "m")
		if err == nil || strings.Contains(err.Error(), "first") {
			t.Errorf("error %v, want one without the token", err)
		}
	})
}

// timeout is an error as net/http knows them.
type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func tokenInNoError(t *testing.T) {
	p := newProgram(t)
	p.saveGrant(t, stubPortal)
	for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})} {
		fail := func(wrap func(req *http.Request) error) error {
			t.Helper()
			tr := &b24oauth.Transport{Source: source, Base: tripper(func(req *http.Request) (*http.Response, error) {
				return answer(500, ""), wrap(req)
			})}
			resp, err := tr.RoundTrip(get(t, stubPortal+"m"))
			if resp != nil || err == nil {
				t.Fatalf("response %v and error %v, want an error alone", resp, err)
			}
			if strings.Contains(err.Error(), "secret-token") {
				t.Errorf("the error tells the token: %v", err)
			}
			return err
		}
		err := fail(func(req *http.Request) error {
			return fmt.Errorf("twice: %w", &url.Error{Op: "Get", URL: req.URL.String(), Err: timeout{}})
		})
		if _, ok := errors.AsType[timeout](err); !ok {
			t.Errorf("a timeout became %v", err)
		}
		fail(func(req *http.Request) error { return errors.New("cannot send " + req.URL.String()) })
		if plain := errors.New("plain"); fail(func(*http.Request) error { return plain }) != plain {
			t.Error("an error without the token was changed")
		}
	}
}
