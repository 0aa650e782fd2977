package b24oauth_test

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth"
)

// follower is a RoundTripper with an http.Client inside, which follows
// redirects.
func follower(t *testing.T) http.RoundTripper {
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	t.Cleanup(client.CloseIdleConnections)
	return tripper(func(req *http.Request) (*http.Response, error) {
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
	if resp != nil || !errors.Is(err, b24oauth.ErrClientRejected) {
		t.Fatalf("response %v, error %v; want a mistake in the configuration", resp, err)
	}
	host := strings.TrimPrefix(elsewhere.URL, "http://")
	for _, want := range []string{"Transport.Base", "b24oauth_test.tripper", host, "ErrUseLastResponse"} {
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
	if host := strings.TrimPrefix(elsewhere.URL, "http://"); !errors.Is(err, b24oauth.ErrClientRejected) || !strings.Contains(err.Error(), host) {
		t.Errorf("error %v, want one that names %s", err, host)
	}
	c := endpointConfig(nil, func(c *b24oauth.Config) {
		c.HTTPClient, c.TokenURL = &http.Client{Transport: follower(t)}, portal.URL+"/oauth/token/"
	})
	if g, err := c.Exchange(t.Context(), "the-code", ""); !errors.Is(err, b24oauth.ErrClientRejected) {
		t.Errorf("grant %v, error %v; want none that came by way of a stranger", g, err)
	}

	t.Run("or without TLS", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		_, err := p.over(tripper(func(req *http.Request) (*http.Response, error) {
			resp := answer(200, "{}")
			resp.Request = get(t, "http://portal.example/rest/m")
			resp.Request.Response = &http.Response{Request: req}
			return resp, nil
		})).RoundTrip(get(t, stubPortal+"m"))
		if !errors.Is(err, b24oauth.ErrClientRejected) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("but not for the caller's own redirect", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		req := get(t, stubPortal+"m")
		req.Response = &http.Response{Request: get(t, "https://cdn.example/")}
		resp, err := p.over(tripper(func(req *http.Request) (*http.Response, error) {
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
		c := endpointConfig(nil, func(c *b24oauth.Config) { c.HTTPClient, c.TokenURL = client, server.URL+"/oauth/token/" })
		_, err := c.Exchange(t.Context(), "the-code", "")
		return err
	}

	err := exchange(&http.Client{Transport: follower(t)})
	if !errors.Is(err, b24oauth.ErrClientRejected) || !strings.Contains(err.Error(), "Config.HTTPClient") || strings.Contains(err.Error(), "the-client-secret") {
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
	client.Client.HTTPClient.Transport = authServer(func(req *http.Request) (*http.Response, error) {
		n.Add(1)
		return answers(503, "")(req)
	})
	c := endpointConfig(nil, func(c *b24oauth.Config) { c.HTTPClient = client.Client.StandardClient() })
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
