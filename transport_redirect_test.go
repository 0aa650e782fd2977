package b24oauth_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-retryablehttp"
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
			redirecting := roundTripFunc(func(req *http.Request) (*http.Response, error) {
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
			tr := &b24oauth.Transport{Source: source, Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
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
		client := &http.Client{Transport: p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
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

func tokenInNoHeader(t *testing.T) {
	for _, code := range []int{200, 201, 202, 301, 400, 401, 404, 429, 503} {
		for _, name := range []string{"Location", "Content-Location", "Refresh", "Link", "X-Request-Uri", "location"} {
			p := newProgramAt(t, stubPortal)
			for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "first"})} {
				base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
					resp := answer(code, `{"error":"NO_AUTH_FOUND"}`)
					resp.Header[name] = []string{req.URL.RequestURI()}
					return resp, nil
				})
				resp, err := (&b24oauth.Transport{Source: source, Base: base}).RoundTrip(get(t, stubPortal+"m?a=1"))
				if got := status(t, resp, err); got != code || resp.Header[name][0] != "/rest/m?a=1" {
					t.Errorf("%s under %d (%T): %q", name, code, source, resp.Header[name])
				}
			}
		}
	}
}

// timeout is an error as net/http knows them.
type timeout struct{}

func (timeout) Error() string { return "timeout" }

func (timeout) Timeout() bool { return true }

func (timeout) Temporary() bool { return true }

func tokenInNoError(t *testing.T) {
	p := newProgram(t)
	p.saveGrant(t, stubPortal)
	for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})} {
		fail := func(wrap func(req *http.Request) error) error {
			t.Helper()
			tr := &b24oauth.Transport{Source: source, Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
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

// follower is a RoundTripper with an http.Client inside, which follows
// redirects.
func follower(t *testing.T) http.RoundTripper {
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	t.Cleanup(client.CloseIdleConnections)
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		again := req.Clone(req.Context())
		again.RequestURI = ""
		return client.Do(again)
	})
}

// retrying is go-retryablehttp's transport as everybody makes it.
func retrying(t *testing.T) *retryablehttp.RoundTripper {
	c := retryablehttp.NewClient()
	c.Logger = log.New(io.Discard, "", 0)
	c.RetryWaitMin, c.RetryWaitMax = 1, 1
	t.Cleanup(c.HTTPClient.CloseIdleConnections)
	return &retryablehttp.RoundTripper{Client: c}
}

func retryingBaseFollowsNothing(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		elsewhere, strangers := watchHost(t, nil)
		portal, calls := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL+r.RequestURI)
			w.WriteHeader(code)
		})
		p := newProgramAt(t, portal.URL+"/rest/")
		client := &http.Client{Transport: p.over(retrying(t))}
		for _, req := range []*http.Request{
			get(t, portal.URL+"/rest/m?id=1"),
			post(t, portal.URL+"/rest/m?id=1", formType, "a=1"),
			post(t, portal.URL+"/rest/m?id=1", jsonType, "{}"),
		} {
			resp, err := client.Do(req)
			status(t, resp, err)
		}
		if len(*calls) != 3 || len(*strangers) != 3 {
			t.Fatalf("%d: %d calls to the portal and %d elsewhere, want three each", code, len(*calls), len(*strangers))
		}
		for _, got := range *strangers {
			if got.URI != "/rest/m?id=1" || containsToken(got) || strings.Contains(got.Body, "auth") {
				t.Errorf("%d: the stranger saw %+v", code, got)
			}
		}
	}
}

func followingBaseIsFoundOut(t *testing.T) {
	elsewhere, strangers := watchHost(t, nil)
	portal, _ := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/rest/m":
			http.Redirect(w, r, elsewhere.URL+"/m", http.StatusFound)
		case "/rest/near":
			http.Redirect(w, r, "/rest/there", http.StatusFound)
		}
	})
	p := newProgramAt(t, portal.URL+"/rest/")
	tr := p.over(follower(t))
	resp, err := tr.RoundTrip(get(t, portal.URL+"/rest/m"))
	if resp != nil || !errors.Is(err, b24oauth.ErrMisconfigured) {
		t.Fatalf("response %v, error %v; want a mistake in the configuration", resp, err)
	}
	host := strings.TrimPrefix(elsewhere.URL, "http://")
	for _, want := range []string{"Transport.Base", "b24oauth_test.roundTripFunc", host, "ErrUseLastResponse"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	resp, err = tr.RoundTrip(get(t, portal.URL+"/rest/near"))
	if got := status(t, resp, err); got != 200 {
		t.Errorf("status %d after a redirect within the portal", got)
	}
	before := len(*strangers)
	resp, err = tr.RoundTrip(get(t, elsewhere.URL+"/plain"))
	if got := status(t, resp, err); got != 200 || len(*strangers) != before+1 {
		t.Errorf("status %d for a request that carries no token", got)
	}
}

func followingBaseIsFoundOutOnItsWayBack(t *testing.T) {
	home := make(chan string, 1)
	elsewhere, _ := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
		url := <-home
		home <- url
		http.Redirect(w, r, url+"/rest/back", http.StatusFound)
	})
	portal, _ := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rest/back" {
			http.Redirect(w, r, elsewhere.URL+"/m", http.StatusFound)
			return
		}
		w.Write([]byte(`{"access_token":"a","refresh_token":"r","client_endpoint":"https://portal.example/rest/"}`))
	})
	home <- portal.URL
	p := newProgramAt(t, portal.URL+"/rest/")
	_, err := p.over(follower(t)).RoundTrip(get(t, portal.URL+"/rest/m"))
	if host := strings.TrimPrefix(elsewhere.URL, "http://"); !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), host) {
		t.Errorf("error %v, want one that names %s", err, host)
	}
	c := endpointConfig(nil, func(c *b24oauth.Config) {
		c.TokenClient, c.TokenURL = &http.Client{Transport: follower(t)}, portal.URL+"/oauth/token/"
	})
	if g, err := c.Exchange(t.Context(), "the-code", ""); !errors.Is(err, b24oauth.ErrMisconfigured) {
		t.Errorf("grant %v, error %v; want none that came by way of a stranger", g, err)
	}

	t.Run("or without TLS", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		_, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp := answer(200, "{}")
			resp.Request = get(t, "http://portal.example/rest/m")
			resp.Request.Response = &http.Response{Request: req}
			return resp, nil
		})).RoundTrip(get(t, stubPortal+"m"))
		if !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("but not for the caller's own redirect", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		req := get(t, stubPortal+"m")
		req.Response = &http.Response{Request: get(t, "https://cdn.example/")}
		resp, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp := answer(200, "{}")
			resp.Request = req.Clone(req.Context()) // as a Base that sends it elsewhere under the portal's name
			resp.Request.URL.Host = "127.0.0.1:1"
			return resp, nil
		})).RoundTrip(req)
		status(t, resp, err)
	})
}

func TestRetryingBaseWithoutAClientKeepsItsConnections(t *testing.T) {
	var conns atomic.Int64
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	ts.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	ts.Start()
	t.Cleanup(ts.Close)
	for name, client := range map[string]*retryablehttp.Client{
		"no http.Client": {CheckRetry: retryablehttp.DefaultRetryPolicy, Backoff: retryablehttp.DefaultBackoff},
		"its own":        retrying(t).Client,
	} {
		p := newProgramAt(t, ts.URL+"/rest/")
		tr := p.over(&retryablehttp.RoundTripper{Client: client})
		conns.Store(0)
		for range 5 {
			resp, err := tr.RoundTrip(get(t, ts.URL+"/rest/m"))
			status(t, resp, err)
		}
		if got := conns.Load(); got > 1 {
			t.Errorf("%s: %d connections for five calls", name, got)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestGuarantee7TokenRequestsAreNotTakenElsewhere(t *testing.T) {
	elsewhere, strangers := watchHost(t, nil)
	server, calls := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.RequestURI, http.StatusFound)
	})
	exchange := func(client *http.Client) error {
		c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient, c.TokenURL = client, server.URL+"/oauth/token/" })
		_, err := c.Exchange(t.Context(), "the-code", "")
		return err
	}

	err := exchange(&http.Client{Transport: follower(t)})
	if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Config.TokenClient") || strings.Contains(err.Error(), "the-client-secret") {
		t.Errorf("error %v, want one that says what to correct", err)
	}
	if len(*calls) != 1 {
		t.Errorf("%d requests, want one: a mistake in the configuration is not repeated", len(*calls))
	}
	*strangers, *calls = nil, nil
	err = exchange(retrying(t).Client.StandardClient())
	if !errors.Is(err, b24oauth.ErrUnavailable) || len(*strangers) != 0 || len(*calls) != 3 {
		t.Errorf("go-retryablehttp: error %v, %d requests and %d elsewhere; want 3 and none", err, len(*calls), len(*strangers))
	}
}

func TestRetryingClientDoesNotMultiplyTokenRequests(t *testing.T) {
	var n atomic.Int64
	client := retrying(t)
	client.Client.RequestLogHook = func(retryablehttp.Logger, *http.Request, int) { t.Error("go-retryablehttp has seen the request") }
	client.Client.HTTPClient.Transport = tokenServer(func(req *http.Request) (*http.Response, error) {
		n.Add(1)
		return answers(503, "")(req)
	})
	c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient = client.Client.StandardClient() })
	if _, err := renewed(t, c, spent()); !errors.Is(err, b24oauth.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if got := n.Load(); got != 3 {
		t.Errorf("%d requests, want three", got)
	}
}

func webhookStaysOutOfReferers(t *testing.T) {
	const webhook = "/rest/1/s3cretpath/crm.deal.list"
	elsewhere, strangers := watchHost(t, nil)
	var seenAtHome []string
	portal, _ := watchHost(t, func(w http.ResponseWriter, r *http.Request) {
		seenAtHome = append(seenAtHome, r.Referer())
		switch r.URL.Path {
		case webhook:
			http.Redirect(w, r, elsewhere.URL+"/f", http.StatusFound)
		case "/rest/near":
			http.Redirect(w, r, "/rest/there", http.StatusFound)
		}
	})
	p := newProgramAt(t, portal.URL+"/rest/")
	client := &http.Client{Transport: p.over(nil)}
	resp, err := client.Get(portal.URL + webhook)
	status(t, resp, err)
	if len(*strangers) != 1 || (*strangers)[0].Referer != portal.URL+"/" {
		t.Errorf("the stranger saw %+v, want the origin as Referer", *strangers)
	}
	if got := resp.Request.Header.Get("Referer"); got != portal.URL+webhook {
		t.Errorf("the caller's own request was changed: Referer %q", got)
	}
	resp, err = client.Get(portal.URL + "/rest/near?id=1")
	status(t, resp, err)
	if got := seenAtHome[len(seenAtHome)-1]; got != portal.URL+"/rest/near?id=1" {
		t.Errorf("on the same host the Referer is %q", got)
	}
	req := get(t, elsewhere.URL+"/own")
	req.Header.Set("Referer", "https://cdn.example/page?a=1")
	resp, err = client.Do(req)
	status(t, resp, err)
	if got := (*strangers)[1].Referer; got != "https://cdn.example/page?a=1" {
		t.Errorf("a Referer of the caller's own became %q", got)
	}
	req = get(t, elsewhere.URL+"/after")
	req.Response = answer(302, "")
	req.Header.Set("Referer", "http://[::1?auth=first")
	resp, err = p.over(nil).RoundTrip(req)
	status(t, resp, err)
	if got := (*strangers)[2].Referer; got != "" {
		t.Errorf("a Referer that is no URL went out as %q", got)
	}
}
