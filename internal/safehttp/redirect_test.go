package safehttp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// redirected returns a request to which one for from was redirected.
func redirected(t *testing.T, from, to string) *http.Request {
	t.Helper()
	req := request(t, to)
	req.Header.Set("Referer", from)
	req.Response = &http.Response{Request: request(t, from)}
	return req
}

func TestRefererTellsAnotherHostTheOriginAlone(t *testing.T) {
	const from = "https://portal.example/rest/1/s3cret/m"
	for to, want := range map[string]string{
		"https://PORTAL.example:443/n": from,
		"https://other.example/n":      "https://portal.example/",
	} {
		req := redirected(t, from, to)
		out := withShortReferer(req)
		if got := out.Header.Get("Referer"); got != want {
			t.Errorf("%s hears of %s, want %s", to, got, want)
		}
		if req.Header.Get("Referer") != from {
			t.Error("the caller's header was changed")
		}
	}
	req := request(t, "https://other.example/")
	req.Response = redirected(t, from, from).Response
	spelled := strings.ToLower("Referer")
	req.Header[spelled] = []string{from, "http://[::1?" + from}
	if got := withShortReferer(req).Header; len(got[spelled]) != 1 || got[spelled][0] != "https://portal.example/" || len(got["Referer"]) != 0 {
		t.Errorf("a Referer in another spelling became %q", got)
	}
	own := request(t, "https://other.example/")
	own.Header.Set("Referer", from)
	if withShortReferer(own) != own {
		t.Error("the caller's own Referer, without a redirect, was touched")
	}
}

func TestTokenThatARedirectTookAlongIsTakenOut(t *testing.T) {
	req := redirected(t, "https://portal.example/m", "https://other.example/m?a=1&auth=token")
	if got := WithoutToken(req, "token").URL.String(); got != "https://other.example/m?a=1" {
		t.Errorf("it goes to %s", got)
	}
	if got := req.URL.RawQuery; got != "a=1&auth=token" {
		t.Errorf("the caller's query became %s", got)
	}
	for _, same := range []*http.Request{redirected(t, "https://portal.example/m", "https://other.example/m?auth=own"), request(t, "https://other.example/m?auth=token")} {
		if WithoutToken(same, "token") != same {
			t.Errorf("%s was touched", same.URL)
		}
	}
	if First(req).URL.Host != "portal.example" || First(First(req)).URL.Host != "portal.example" {
		t.Error("the first request of a chain was not found")
	}
}

func TestHeaderOfAnAnswerLosesTheTokenAndNothingElse(t *testing.T) {
	for value, want := range map[string]string{
		"/m?a=1&auth=t%2Bken#here":                      "/m?a=1#here",
		"/m?auth=t%2Bken":                               "/m",
		"/m?auth=t%2Bken&a=1":                           "/m?a=1",
		"/m?x=t%2Bken":                                  "/m?x=[REDACTED]",
		"/t+ken/m?auth=own":                             "/[REDACTED]/m?auth=own",
		"/m?auth=own":                                   "/m?auth=own",
		"5; url=/m?auth=t%2Bken&a":                      "5; url=/m?a",
		"</m?a&auth=t%2Bken>; rel=x, </n?auth=t%2Bken>": "</m?a&auth=[REDACTED]>; rel=x, </n?auth=[REDACTED]>",
		"t+ken": "[REDACTED]",
	} {
		for _, name := range []string{"Location", "Content-Location", "Refresh", "Link", "X-Request-Uri", "location"} {
			shared := http.Header{name: {"first", value}}
			resp := &http.Response{Header: shared}
			CleanHeader(resp, "t+ken")
			if got := resp.Header[name]; got[0] != "first" || got[1] != want {
				t.Errorf("%s: %s became %s, want %s", name, value, got, want)
			}
			if shared[name][1] != value {
				t.Error("the transport's own map was written to")
			}
		}
	}
	usual := &http.Response{Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Date": {"Thu, 26 Nov 2026 08:00:00 GMT"}, "Link": {strings.Repeat("</m>; rel=next, ", 20)}}}
	token := strings.Repeat("0123456789abcdef", 4)
	if allocs := testing.AllocsPerRun(100, func() { CleanHeader(usual, token) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestRedirectTargetIsAnotherHostThatMayHaveTheToken(t *testing.T) {
	from := request(t, "https://portal.example/rest/m").URL
	for location, want := range map[string]string{
		"https://new.example/rest/m":        "new.example",
		"https://NEW.example:8443/":         "new.example:8443",
		"//new.example/rest/m":              "new.example",
		"/rest/n":                           "",
		"https://Portal.example:443/rest/n": "",
		"http://new.example/rest/m":         "",
		"https://u:p@new.example/rest/m":    "",
		"https://new.example:x/":            "",
		"":                                  "",
	} {
		resp := &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {location}}}
		if got := RedirectTarget(resp, from); got != want {
			t.Errorf("a redirect to %q leads to %q, want %q", location, got, want)
		}
		resp.StatusCode = http.StatusNotModified
		if got := RedirectTarget(resp, from); got != "" {
			t.Errorf("a 304 leads to %q", got)
		}
	}
}

// following is a transport that follows redirects.
type following struct{ client *http.Client }

func (f following) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.RequestURI = ""
	return f.client.Do(req)
}

func TestTransportThatStrayedIsFoundOut(t *testing.T) {
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "far") }))
	defer far.Close()
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, far.URL, http.StatusFound) }))
	defer near.Close()
	resp, strayed, err := Send(following{near.Client()}, request(t, near.URL))
	if err != nil {
		t.Fatal(err)
	}
	Discard(resp)
	if want := strings.TrimPrefix(far.URL, "http://"); strayed != want {
		t.Errorf("it strayed to %q, want %q", strayed, want)
	}
	if resp, err := Once(&http.Client{Transport: following{near.Client()}}, "the client", "the secret").Get(near.URL); err == nil {
		Discard(resp)
		t.Error("an answer from elsewhere was taken")
	} else if !strings.Contains(err.Error(), "the Transport of the client (safehttp.following) followed a redirect") || !strings.Contains(err.Error(), "the secret may be known there") {
		t.Error(err)
	}
}

func TestPanicOfATransportIsAnError(t *testing.T) {
	client := &http.Client{Transport: panicking{}}
	if resp, err := Once(client, "the client", "").Get("https://portal.example/"); err == nil {
		Discard(resp)
		t.Error("no error")
	} else if !strings.HasSuffix(err.Error(), "the client panicked: a value of type string") {
		t.Error(err)
	}
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("secret") }
