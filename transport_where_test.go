package b24oauth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

func TestGuarantee7TokenGoesToItsPortalOnly(t *testing.T) {
	t.Run("by address", tokenByAddress)
	t.Run("under its portal's Host", tokenByHost)
	t.Run("webhooks and signed links pass untouched", ownSecrets)
	t.Run("across redirects", tokenAcrossRedirects)
	t.Run("across redirects, with go-retryablehttp below", retryingBaseFollowsNothing)
	t.Run("or the Base that follows redirects is found out", followingBaseIsFoundOut)
	t.Run("or is found out on its way back", followingBaseIsFoundOutOnItsWayBack)
	t.Run("in no Location", tokenInNoLocation)
	t.Run("in no header of any answer", tokenInNoHeader)
	t.Run("nor a webhook in a Referer", webhookStaysOutOfReferers)
	t.Run("in no error of Base", tokenInNoError)
	t.Run("from a source that is no TokenSource", tokenOfOtherSources)
}

// saveGrant stores a grant of a portal of the test's own instead of the
// program's.
func (p *program) saveGrant(t *testing.T, endpoint string, former ...string) {
	t.Helper()
	if err := p.config.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	g := p.Install()
	g.MemberID, g.ClientEndpoint, g.AccessToken, g.FormerHosts = "own", endpoint, "secret-token", former
	if err := p.config.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
}

// arrived is what of a request's destination Base saw.
type arrived struct{ URL, Host, Authorization string }

// recorder answers 200 and remembers where requests went.
type recorder []arrived

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	*r = append(*r, arrived{req.URL.String(), req.Host, req.Header.Get("Authorization")})
	if req.Body != nil {
		req.Body.Close()
	}
	return answer(200, "{}"), nil
}

func tokenByAddress(t *testing.T) {
	const portal, local = "https://portal.example/rest/", "http://127.0.0.1:8080/rest/"
	for _, c := range []struct{ name, endpoint, url, want string }{
		{"the portal", portal, "https://portal.example/rest/m", "https://portal.example/rest/m?auth=TOKEN"},
		{"outside of rest", portal, "https://portal.example/upload/f?a=1", "https://portal.example/upload/f?auth=TOKEN&a=1"},
		{"upper case", portal, "https://Portal.EXAMPLE/rest/m", "https://Portal.EXAMPLE/rest/m?auth=TOKEN"},
		{"upper case in the grant", "https://PORTAL.example/rest/", "https://portal.example/rest/m", "https://portal.example/rest/m?auth=TOKEN"},
		{"default port spelled out", portal, "https://portal.example:443/rest/m", "https://portal.example:443/rest/m?auth=TOKEN"},
		{"default port spelled out in the grant", "https://portal.example:443/rest/", "https://portal.example/rest/m", "https://portal.example/rest/m?auth=TOKEN"},
		{"a name beyond ASCII", "https://портал.example/rest/", "https://ПОРТАЛ.example/rest/m", "https://ПОРТАЛ.example/rest/m?auth=TOKEN"},
		{"a name beyond ASCII, as it is looked up", "https://портал.example/rest/", "https://xn--80awhdgm.example/rest/m", "https://xn--80awhdgm.example/rest/m?auth=TOKEN"},
		{"a name beyond ASCII, as it is looked up in the grant", "https://XN--80awhdgm.example/rest/", "https://портал.example:443/rest/m", "https://портал.example:443/rest/m?auth=TOKEN"},
		{"full width", portal, "https://ｐortal。example/rest/m", "https://ｐortal。example/rest/m?auth=TOKEN"},
		{"a Kelvin sign", "https://kelvin.example/rest/", "https://\u212Aelvin.example/rest/m", "https://\u212Aelvin.example/rest/m?auth=TOKEN"},
		{"a Cyrillic letter that looks alike", portal, "https://pоrtal.example/rest/m", ""},
		{"a name that nobody can look up", "https://kelvi_n.example/rest/", "https://\u212Aelvi_n.example/rest/m", ""},
		{"another domain after an ideographic stop", portal, "https://portal.example。evil.example/rest/m", ""},
		{"userinfo", portal, "https://u:p@portal.example/rest/m", "https://u:p@portal.example/rest/m?auth=TOKEN"},
		{"loopback", local, "http://127.0.0.1:8080/rest/m", "http://127.0.0.1:8080/rest/m?auth=TOKEN"},
		{"former host", portal, "https://old.example/rest/m?a=1", "https://portal.example/rest/m?auth=TOKEN&a=1"},
		{"former host in upper case with its port", portal, "https://OLD.example:443/rest/m", "https://portal.example/rest/m?auth=TOKEN"},
		{"former host on loopback", local, "https://old.example/rest/m", "http://127.0.0.1:8080/rest/m?auth=TOKEN"},

		{"other host", portal, "https://cdn.example/rest/m?auth=own", ""},
		{"host below", portal, "https://a.portal.example/rest/m", ""},
		{"host above", portal, "https://example/rest/m", ""},
		{"host that begins alike", portal, "https://portal.example.evil/rest/m", ""},
		{"other port", portal, "https://portal.example:8443/rest/m", ""},
		{"https at the port of http", portal, "https://portal.example:80/rest/m", ""},
		{"userinfo that looks like the portal", portal, "https://portal.example@evil.example/rest/m", ""},
		{"userinfo with a colon that looks like the portal", portal, "https://portal.example:443@evil.example/rest/m", ""},
		{"former host at another port", portal, "https://old.example:8443/rest/m", ""},
		{"loopback at the scheme's other port", "https://127.0.0.1/rest/", "http://127.0.0.1/rest/m", ""},
		{"loopback over another scheme", local, "https://127.0.0.1:8080/rest/m", ""},
		{"loopback by another name", local, "http://localhost:8080/rest/m", ""},
		{"other scheme", portal, "ftp://portal.example/rest/m", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram(t)
			p.saveGrant(t, c.endpoint, "old.example")
			var went recorder
			req := get(t, c.url)
			req.Header.Set("Authorization", "Bearer own")
			resp, err := p.over(&went).RoundTrip(req)
			status(t, resp, err)
			if resp.Request != req {
				t.Error("the response is to another request than the caller's")
			}
			want := arrived{strings.ReplaceAll(c.want, "TOKEN", "secret-token"), mustParse(t, c.url).Host, ""}
			switch {
			case c.want == "":
				want = arrived{c.url, mustParse(t, c.url).Host, "Bearer own"}
			case strings.Contains(strings.ToLower(c.url), "old.example"):
				want.Host = mustParse(t, c.endpoint).Host
			}
			want.URL = mustParse(t, want.URL).String() // escaped, beyond ASCII
			if diff := cmp.Diff(recorder{want}, went); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// tokenByHost has a web server with several sites, and a proxy, see the portal's
// name wherever they may look for one.
func tokenByHost(t *testing.T) {
	type site struct{ Host, Line, Token string }
	var sites []site
	sites1 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sites = append(sites, site{r.Host, r.RequestURI, r.URL.Query().Get("auth")})
	}))
	t.Cleanup(sites1.Close)
	sites2 := httptest.NewUnstartedServer(sites1.Config.Handler)
	sites2.EnableHTTP2 = true
	sites2.StartTLS()
	t.Cleanup(sites2.Close)
	proxied := &http.Transport{Proxy: http.ProxyURL(mustParse(t, sites1.URL))}
	direct := &http.Transport{}
	t.Cleanup(proxied.CloseIdleConnections)
	t.Cleanup(direct.CloseIdleConnections)
	for _, c := range []struct {
		name, url string
		base      http.RoundTripper
		line      string // before its path
	}{
		{"HTTP/1", sites1.URL, direct, ""},
		{"HTTP/2", sites2.URL, sites2.Client().Transport, ""},
		{"a proxy", "http://127.0.0.1:1", proxied, "http://127.0.0.1:1"},
	} {
		p := newProgramAt(t, c.url+"/rest/")
		host := mustParse(t, c.url).Host
		for name, change := range map[string]func(*http.Request){
			"as it is":             func(*http.Request) {},
			"Host":                 func(req *http.Request) { req.Host = "evil.example" },
			"a header named Host":  func(req *http.Request) { req.Header.Set("Host", "evil.example") },
			"a header named host":  func(req *http.Request) { req.Header["host"] = []string{"evil.example"} },
			"an opaque path":       func(req *http.Request) { req.URL.Opaque = "/rest/m" },
			"an opaque URL":        func(req *http.Request) { req.URL.Opaque, req.URL.Path = "//evil.example/rest/m", "" },
			"an opaque scheme too": func(req *http.Request) { req.URL.Opaque = "https://evil.example/rest/m" },
		} {
			for _, source := range []oauth2.TokenSource{p.source, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "first"})} {
				sites = nil
				req := get(t, c.url+"/rest/m")
				change(req)
				resp, err := (&b24oauth.Transport{Source: source, Base: c.base}).RoundTrip(req)
				if got := status(t, resp, err); got != 200 || resp.Request != req {
					t.Errorf("%s, %s: status %d", c.name, name, got)
				}
				want := []site{{host, c.line + "/rest/m?auth=first", "first"}}
				if req.URL.Opaque != "" {
					want[0].Line = "/rest/m?auth=first" // net/http sends it so to a proxy too
				}
				if diff := cmp.Diff(want, sites); diff != "" {
					t.Errorf("%s, %s (-want +got):\n%s", c.name, name, diff)
				}
			}
		}
	}
	t.Run("from a reverse proxy", func(t *testing.T) {
		p := newProgramAt(t, sites1.URL+"/rest/")
		front := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { // as NewSingleHostReverseProxy does, which leaves Host
				r.SetURL(mustParse(t, sites1.URL))
				r.Out.Host = r.In.Host
			},
			Transport: p.over(direct),
		})
		defer front.Close()
		sites = nil
		resp, err := front.Client().Do(get(t, front.URL+"/rest/m"))
		status(t, resp, err)
		if diff := cmp.Diff([]site{{mustParse(t, sites1.URL).Host, "/rest/m?auth=first", "first"}}, sites); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("but not a request that carries none", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		var went recorder
		req := get(t, "https://cdn.example/f")
		req.Host = "own.example"
		resp, err := p.over(&went).RoundTrip(req)
		status(t, resp, err)
		if went[0].Host != "own.example" {
			t.Errorf("Host %q", went[0].Host)
		}
	})
}

func ownSecrets(t *testing.T) {
	for _, path := range []string{
		"/rest/1/s3cret/crm.deal.list", "/rest/1/s3cret/crm.deal.list.json?auth=own", "/rest//17//s3cret/crm.deal.list",
		"//rest/1/s3cret/m", "/rest/%31/s3cret/m", "/rest/./1/s3cret/m", "/rest/x/../1/s3cret/m",
		"/rest/api/1/s3cret/tasks.task.get", "/rest//api//1/s3cret/tasks.task.get", "/rest/1/s3cret/",
		"/rest/download.json?auth=own&token=disk%7Cx", "/bitrix/file?token=x", "/rest/download.json?token=x&a=1",
		"/rest/download.json?%74oken=x", "/rest/m?auth[aplogin]=1&auth[ap]=s3cret", "/rest/m.json?a=1&auth%5Bap%5D=s3cret&auth%5Baplogin%5D=1",
		"/rest/m?aplogin=1&ap=s3cret&auth=own", "/rest/m?+aplogin=1&%61p=s3cret",
	} {
		for _, c := range []struct {
			name   string
			source func(p *program) oauth2.TokenSource
		}{
			{"TokenSource", func(p *program) oauth2.TokenSource { return p.source }},
			{"StaticTokenSource", func(*program) oauth2.TokenSource {
				return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})
			}},
		} {
			t.Run(c.name+path, func(t *testing.T) {
				p := newProgram(t)
				p.saveGrant(t, stubPortal, "old.example")
				for _, host := range []string{"https://portal.example", "https://old.example"} {
					req := post(t, host+path, formType, "a=1")
					var sent *http.Request
					tr := &b24oauth.Transport{Source: c.source(p), Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						sent = r
						return answer(401, expiredBody), nil
					})}
					resp, err := tr.RoundTrip(req)
					if got := status(t, resp, err); got != 401 || sent != req {
						t.Errorf("%s: status %d; the very request was sent: %t", host, got, sent == req)
					}
				}
				if n := p.Refreshes(); n != 0 {
					t.Errorf("%d refreshes, want none", n)
				}
			})
		}
	}
	for _, path := range []string{"/rest/crm.deal.list", "/rest/1/", "/rest/x/s3cret/m", "/rest/api/m?mytoken=x&a[token]=1", "/rest1/1/s/m", "/rest/m?ap=1", "/rest/m?aplogin=1", "/rest/m?auth[ap]=1&aplogin=1"} {
		p := newProgram(t)
		p.saveGrant(t, stubPortal)
		var went recorder
		resp, err := p.over(&went).RoundTrip(get(t, "https://portal.example"+path))
		status(t, resp, err)
		if !strings.Contains(went[0].URL, "secret-token") {
			t.Errorf("%s is taken for a webhook or a signed link", path)
		}
	}
}

func tokenOfOtherSources(t *testing.T) {
	static := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})
	named := func(endpoint any) oauth2.TokenSource {
		token := &oauth2.Token{AccessToken: "secret-token"}
		return oauth2.StaticTokenSource(token.WithExtra(map[string]any{"client_endpoint": endpoint}))
	}
	for _, c := range []struct {
		name   string
		source oauth2.TokenSource
		url    string
		via    string // the request that a redirect led here from
		want   string
	}{
		{"its host", static, "https://any.example/rest/m", "", "https://any.example/rest/m?auth=secret-token"},
		{"http", static, "http://any.example/rest/m", "", "http://any.example/rest/m"},
		{"http on loopback", static, "http://localhost/rest/m", "", "http://localhost/rest/m?auth=secret-token"},
		{"redirect to elsewhere", static, "https://evil.example/rest/m", "https://any.example/rest/m", "https://evil.example/rest/m"},
		{"redirect to another port", static, "https://any.example:8443/m", "https://any.example/rest/m", "https://any.example:8443/m"},
		{"redirect on its host", static, "https://any.example/x", "https://ANY.example:443/rest/m", "https://any.example/x?auth=secret-token"},
		{"the portal it names", named(stubPortal), "https://portal.example/rest/m", "", "https://portal.example/rest/m?auth=secret-token"},
		{"another than it names", named(stubPortal), "https://any.example/rest/m", "", "https://any.example/rest/m"},
		{"the portal it names, over http on loopback", named("https://127.0.0.1/rest/"), "http://127.0.0.1/rest/m", "", "http://127.0.0.1/rest/m"},
		{"it names none", named(""), "https://any.example/rest/m", "", "https://any.example/rest/m?auth=secret-token"},
		{"it names no text", named(7), "https://any.example/rest/m", "", "https://any.example/rest/m?auth=secret-token"},
	} {
		var went recorder
		req := get(t, c.url)
		if c.via != "" {
			// Two redirects, both of them on the way.
			first, second := answer(302, ""), answer(302, "")
			first.Request = get(t, c.via)
			middle := get(t, c.url)
			middle.Response = first
			second.Request = middle
			req.Response = second
		}
		resp, err := (&b24oauth.Transport{Source: c.source, Base: &went}).RoundTrip(req)
		status(t, resp, err)
		if diff := cmp.Diff(recorder{{c.want, req.URL.Host, ""}}, went); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	t.Run("a refusal reaches the caller", func(t *testing.T) {
		resp, err := (&b24oauth.Transport{Source: static, Base: portal("another")}).RoundTrip(post(t, stubPortal+"m", formType, "a=1"))
		if err != nil || resp.StatusCode != 401 || text(t, resp) != expiredBody {
			t.Errorf("%v, %v; want the 401, whole", resp, err)
		}
	})
}

func TestRequestsWithoutATokenToBeHadFailClearly(t *testing.T) {
	p := newProgram(t)
	var none *b24oauth.TokenSource
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		source oauth2.TokenSource
		want   error
		says   string
	}{
		{"no Source", nil, b24oauth.ErrMisconfigured, "Source is nil"},
		{"a nil *TokenSource", none, b24oauth.ErrMisconfigured, "Source is nil"},
		{"no grant", p.config.TokenSource("unknown"), b24oauth.ErrNoGrant, "unknown"},
		{"a token without AccessToken", oauth2.StaticTokenSource(&oauth2.Token{}), b24oauth.ErrMisconfigured, "without AccessToken"},
		{"no token and no error", sourceFunc(func() (*oauth2.Token, error) { return nil, nil }), b24oauth.ErrMisconfigured, "without AccessToken"},
		{"a failing source", sourceFunc(func() (*oauth2.Token, error) { return nil, broken }), broken, "broken"},
		{"an endpoint that is none", oauth2.StaticTokenSource((&oauth2.Token{AccessToken: "x"}).WithExtra(map[string]any{"client_endpoint": "http://portal.example/rest/"})), b24oauth.ErrMisconfigured, "not https"},
	} {
		body := watch("a=1")
		req := post(t, stubPortal+"m", formType, body)
		resp, err := (&b24oauth.Transport{Source: c.source, Base: portal("x")}).RoundTrip(req)
		if resp != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %v that says %q", c.name, resp, err, c.want, c.says)
		}
		body.check(t)
	}
}

type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }

// containsToken reports whether a request shows one of newProgramAt's tokens.
func containsToken(s seen) bool {
	all := s.URI + s.Referer + s.Authorization + s.Body
	return strings.Contains(all, "first") || strings.Contains(all, "second")
}
