package b24oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
)

// tokenServer is an authorization server as a function: what a Config's
// TokenClient has for a network.
type tokenServer func(*http.Request) (*http.Response, error)

func (f tokenServer) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answers is an tokenServer that always says the same.
func answers(status int, body string, header ...string) tokenServer {
	return func(req *http.Request) (*http.Response, error) {
		h := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: req}, nil
	}
}

// counted returns the server and the number of requests it got.
func counted(srv tokenServer) (tokenServer, *atomic.Int64) {
	n := new(atomic.Int64)
	return func(req *http.Request) (*http.Response, error) {
		n.Add(1)
		return srv(req)
	}, n
}

// endpointConfig is an application whose token requests go to srv.
func endpointConfig(srv http.RoundTripper, change ...func(*b24oauth.Config)) *b24oauth.Config {
	c := &b24oauth.Config{
		ClientID:     "app.1",
		ClientSecret: "the-client-secret",
		TokenClient:  &http.Client{Transport: srv},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// spentAt is one of another portal.
func spentAt(member string) *b24oauth.Grant {
	g := spent()
	g.MemberID = member
	return g
}

// spent is a grant whose access token has run out.
func spent() *b24oauth.Grant {
	return &b24oauth.Grant{
		ClientID:         "app.1",
		MemberID:         "member",
		ClientEndpoint:   "https://portal.bitrix24.com/rest/",
		ServerEndpoint:   "https://oauth.bitrix.info/rest/",
		AccessToken:      "spent-access-token",
		RefreshToken:     "the-refresh-token",
		ApplicationToken: "the-application-token",
		Issued:           time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		Expiry:           time.Date(1999, 1, 1, 1, 0, 0, 0, time.UTC),
		Scope:            "crm,task",
		Status:           "L",
		UserID:           7,
		FormerHosts:      []string{"first.bitrix24.com"},
	}
}

// renewed stores the grant, renews it and returns what is stored afterwards.
func renewed(t *testing.T, c *b24oauth.Config, g *b24oauth.Grant) (*b24oauth.Grant, error) {
	t.Helper()
	if err := c.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
	_, err := c.TokenSource(key).Token()
	stored, loadErr := c.TokenSource(key).Grant(t.Context())
	if loadErr != nil {
		t.Fatal(loadErr)
	}
	return stored, err
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTokenRequestIsWhatTheProtocolSays(t *testing.T) {
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"app.1"}, "client_secret": {"the-client-secret"}, "refresh_token": {"the-refresh-token"}}
	exchange := url.Values{"grant_type": {"authorization_code"}, "client_id": {"app.1"}, "client_secret": {"the-client-secret"}, "code": {"the-code"}}
	with := func(v url.Values, name, value string) url.Values {
		w := url.Values{name: {value}}
		for k := range v {
			w[k] = v[k]
		}
		return w
	}
	get := func(*b24oauth.Config) {}
	post := func(c *b24oauth.Config) { c.TokenMethod = http.MethodPost }
	scopes := func(c *b24oauth.Config) { c.Scopes = []string{"crm", "task"} }
	legacy := func(c *b24oauth.Config) {
		c.TokenURL = b24oauth.PortalTokenURL("portal.bitrix24.com")
		c.Scopes = []string{"crm"}
	}
	type request struct {
		Method, URL, ContentType string
		Query, Form              url.Values
	}
	const global, form = "https://oauth.bitrix.info/oauth/token/", "application/x-www-form-urlencoded"
	tests := []struct {
		name     string
		change   func(*b24oauth.Config)
		exchange bool
		want     request
	}{
		{"refresh", get, false, request{"GET", global, "", refresh, nil}},
		{"refresh by POST", post, false, request{"POST", global, form, nil, refresh}},
		{"refresh with scopes", scopes, false, request{"GET", global, "", with(refresh, "scope", "crm,task"), nil}},
		{"refresh at the portal, the legacy form", legacy, false, request{"GET", "https://portal.bitrix24.com/oauth/token/", "", with(refresh, "scope", "crm"), nil}},
		{"refresh at a TokenURL that has a query", func(c *b24oauth.Config) { c.TokenURL = "https://proxy.example/token?tenant=1" }, false,
			request{"GET", "https://proxy.example/token", "", with(refresh, "tenant", "1"), nil}},
		{"exchange", get, true, request{"GET", global, "", exchange, nil}},
		{"exchange by POST", post, true, request{"POST", global, form, nil, exchange}},
		{"exchange with scopes", scopes, true, request{"GET", global, "", exchange, nil}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got request
			body := fixture(t, "token-exchange.json")
			c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
				at := *req.URL
				at.RawQuery = ""
				got = request{Method: req.Method, URL: at.String(), ContentType: req.Header.Get("Content-Type")}
				if req.URL.RawQuery != "" {
					got.Query = req.URL.Query()
				}
				data, err := io.ReadAll(req.Body)
				if err != nil {
					return nil, err
				}
				if len(data) > 0 {
					got.Form, err = url.ParseQuery(string(data))
				}
				if err != nil {
					return nil, err
				}
				return answers(200, body)(req)
			}), test.change)
			var err error
			if test.exchange {
				_, err = c.Exchange(t.Context(), "the-code", "")
			} else {
				_, err = renewed(t, c, spentAt("a223c6b3710f85df22e9377d6c4f7553"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("token request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClientSecretGoesToKnownServersOnly(t *testing.T) {
	const global, cis = "oauth.bitrix.info", "oauth.bitrix24.tech"
	tests := []struct{ server, asked string }{ // asked: the host; "" if none is
		{"", global},
		{"https://oauth.bitrix.info/rest/", global},
		{"https://oauth.bitrix24.tech/rest/", cis},
		{"https://oauth.bitrix24.tech/anything/else", cis},
		{"HTTPS://OAUTH.Bitrix24.TECH/rest/", cis},
		{"oauth.bitrix24.tech", cis},
		{"OAUTH.BITRIX.INFO", global},

		{"http://oauth.bitrix.info/rest/", ""},
		{"ftp://oauth.bitrix.info/rest/", ""},
		{"//oauth.bitrix.info/rest/", ""},
		{"https://evil.example/rest/", ""},
		{"https://oauth.bitrix.info.evil.example/rest/", ""},
		{"https://evil-oauth.bitrix.info/rest/", ""},
		{"https://x.oauth.bitrix.info/rest/", ""},
		{"https://bitrix.info/rest/", ""},
		{"https://oauth.bitrix.info@evil.example/rest/", ""},
		{"https://a:b@oauth.bitrix.info/rest/", ""},
		{"https://oauth.bitrix.info:8443/rest/", ""},
		{"https://oauth.bitrix.info./rest/", ""},
		{"https://oauth.bitrix.info%2eevil.example/rest/", ""},
		{"https://oauth.bitrix.info\\.evil.example/rest/", ""},
		{"https:///oauth.bitrix.info/rest/", ""},
		{"https:oauth.bitrix.info/rest/", ""},
		{"https://[oauth.bitrix.info/rest/", ""},
		{"oauth.bitrix.info:8443", ""},
		{"oauth.bitrix.info.", ""},
		{"a@oauth.bitrix.info", ""},
		{"oauth.bitrix.info/rest", ""},
		{"127.0.0.1", ""},
		{" ", ""},
	}
	for _, test := range tests {
		t.Run(test.server, func(t *testing.T) {
			var asked string
			body := fixture(t, "token-exchange.json")
			c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
				asked = req.URL.Host
				if want := "https://" + asked + "/oauth/token/"; !strings.HasPrefix(req.URL.String(), want+"?") {
					t.Errorf("request to %s, want %s", req.URL.Redacted(), want)
				}
				return answers(200, body)(req)
			}))
			check := func(what string, err error) {
				t.Helper()
				if asked != test.asked {
					t.Errorf("%s: asked %q, want %q", what, asked, test.asked)
				}
				if (err != nil) != (test.asked == "") || err != nil && (!errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Config.TokenURL")) {
					t.Errorf("%s: error %v; want one that names Config.TokenURL if the server is unknown, else none", what, err)
				}
				asked = ""
			}

			_, err := c.Exchange(t.Context(), "the-code", test.server)
			check("Exchange", err)

			g := spentAt("") // the answer names its own portal
			g.ServerEndpoint = test.server
			if err := c.Save(t.Context(), key, g); (err != nil) != (test.asked == "") {
				t.Errorf("Save: %v", err)
			}

			store := new(b24oauth.MemoryStore) // which has it from elsewhere
			storeDirectly(t, store, key, g)
			c = endpointConfig(c.TokenClient.Transport, func(c *b24oauth.Config) { c.Store = store })
			_, err = c.TokenSource(key).Token()
			check("refresh", err)

			c = endpointConfig(c.TokenClient.Transport, func(c *b24oauth.Config) { c.TokenURL = b24oauth.TokenURLCIS })
			if _, err = c.Exchange(t.Context(), "the-code", test.server); err != nil || asked != cis {
				t.Errorf("with Config.TokenURL: asked %q, want the configured server (error %v)", asked, err)
			}
		})
	}
}

func TestTokenURLIsHTTPSExceptOnLoopback(t *testing.T) {
	for tokenURL, ok := range map[string]bool{
		"https://oauth.own.example/oauth/token/": true,
		"http://127.0.0.1:8080/oauth/token/":     true,
		"http://[::1]/oauth/token/":              true,
		"http://localhost/oauth/token/":          true,
		"http://oauth.localhost/oauth/token/":    true,
		"http://oauth.own.example/oauth/token/":  false,
		"http://127.0.0.1.evil.example/":         false,
		"http://localhost.evil.example/":         false,
		"http://10.0.0.1/oauth/token/":           false,
		"https://a:b@oauth.own.example/":         false,
		"https:///oauth/token/":                  false,
		"oauth.own.example":                      false,
		"ftp://127.0.0.1/":                       false,
		"https://[/":                             false,
	} {
		srv, n := counted(answers(200, fixture(t, "token-exchange.json")))
		c := endpointConfig(srv, func(c *b24oauth.Config) { c.TokenURL = tokenURL })
		_, err := c.Exchange(t.Context(), "the-code", "")
		if ok != (err == nil) || ok != (n.Load() == 1) {
			t.Errorf("Config.TokenURL %q: %d requests, error %v; want it accepted: %v", tokenURL, n.Load(), err, ok)
		}
		if !ok && (!errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Config.TokenURL")) {
			t.Errorf("Config.TokenURL %q: error %v does not tell what to correct", tokenURL, err)
		}
	}
}

func TestExchangedGrantStaysWithTheServerThatIssuedIt(t *testing.T) {
	const portal = `"client_endpoint":"https://portal.bitrix24.com/rest/"`
	tests := []struct{ name, members, serverDomain, tokenURL, want string }{
		{"the answer's own", `"server_endpoint":"https://oauth.bitrix24.tech/rest/"`, "", "", "https://oauth.bitrix24.tech/rest/"},
		{"none in the answer", `"status":"F"`, "oauth.bitrix24.tech", "", "https://oauth.bitrix24.tech/rest/"},
		{"an unknown one in the answer", `"server_endpoint":"https://evil.example/rest/"`, "", "", "https://oauth.bitrix.info/rest/"},
		{"a configured one", `"status":"F"`, "", "https://own.example/oauth/token/", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(answers(200, `{"access_token":"a","refresh_token":"r",`+portal+`,`+test.members+`}`))
			c.TokenURL = test.tokenURL
			g, err := c.Exchange(t.Context(), "the-code", test.serverDomain)
			if err != nil {
				t.Fatal(err)
			}
			if g.ServerEndpoint != test.want {
				t.Errorf("server_endpoint %q, want %q", g.ServerEndpoint, test.want)
			}
			if err := c.Save(t.Context(), key, g); err != nil {
				t.Errorf("what Exchange returns is not accepted by Save: %v", err)
			}
		})
	}
}

func TestExchangeRefusesWhatItCannotDo(t *testing.T) {
	good := fixture(t, "token-exchange.json")
	tests := []struct {
		name, code, body string
		change           func(*b24oauth.Config)
		want             error
		text             string
	}{
		{"no code", "", good, nil, b24oauth.ErrMisconfigured, "code parameter"},
		{"no client id", "c", good, func(c *b24oauth.Config) { c.ClientID = "" }, b24oauth.ErrMisconfigured, "Config.ClientID"},
		{"a code that is used up", "c", `{"error":"invalid_grant"}`, nil, b24oauth.ErrReauthorize, "authorize the application"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(answers(200, test.body))
			if test.change != nil {
				test.change(c)
			}
			g, err := c.Exchange(t.Context(), test.code, "")
			if g != nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("grant %v, error %v; want one that is %q and says %q", g, err, test.want, test.text)
			}
		})
	}
}

// A code is spent once it is answered, so the pair is returned whatever address
// stands beside it: portals behind a proxy that ends TLS call themselves http.
func TestGuarantee13BoughtPairIsReturnedAndSaveSaysWhatIsWrongWithItsPortal(t *testing.T) {
	for _, test := range []struct{ name, endpoint, says, corrected string }{
		{"http", "http://portal.example/rest/", "not https", "https://portal.example/rest/"},
		{"none", "", "no host", "https://portal.example/rest/"},
		{"no path", "https://portal.example/", "no path", "https://portal.example/rest/"},
		{"a webhook", "https://portal.example/rest/1/secret/", "webhook", "https://portal.example/rest/"},
		{"no URL", "https://portal.example\\u007f", "no URL", "https://portal.example/rest/"},
		{"methods moved", "https://portal.example/crm/rest/", "", "https://portal.example/crm/rest/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := endpointConfig(answers(200, `{"access_token":"new-access","refresh_token":"new-refresh","expires_in":3600,"client_endpoint":"`+test.endpoint+`"}`))
				g, err := c.Exchange(t.Context(), "code", "")
				if err != nil || g.AccessToken != "new-access" || g.RefreshToken != "new-refresh" {
					t.Fatalf("grant %v, error %v; want the pair that the code has bought", g, err)
				}
				err = c.Save(t.Context(), key, g)
				if test.says != "" && (!errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "Grant.ClientEndpoint")) {
					t.Errorf("Save: %v; want an error that says %q and what to correct", err, test.says)
				}
				g.ClientEndpoint = test.corrected
				if err := c.Save(t.Context(), key, g); err != nil {
					t.Errorf("Save of the corrected grant: %v", err)
				}
				if u, err := c.TokenSource(key).Endpoint(t.Context()); err != nil || u.String() != test.corrected {
					t.Errorf("Endpoint %v, %v; want %s", u, err, test.corrected)
				}
			})
		})
	}
}

// The server goes on to call the portal by the address that had to be
// corrected.
func TestCorrectedPortalStaysSoAfterARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(answers(200, `{"access_token":"a","refresh_token":"r","client_endpoint":"http://portal.bitrix24.com/rest/"}`))
		if g, err := renewed(t, c, spent()); err != nil || g.ClientEndpoint != spent().ClientEndpoint {
			t.Errorf("stored %v, error %v", g, err)
		}
	})
}

func TestExchangeEndsWithTheCallersContextOrItsOwn(t *testing.T) {
	hangs := tokenServer(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := endpointConfig(hangs).Exchange(ctx, "the-code", "")
		var te *b24oauth.TokenError
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) || time.Since(start) != 8*time.Second {
			t.Errorf("after %v: %v; want the caller's own end after 3s and a grace of 5s", time.Since(start), err)
		}

		start = time.Now()
		_, err = endpointConfig(hangs).Exchange(t.Context(), "the-code", "")
		if !errors.Is(err, b24oauth.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 20*time.Second {
			t.Errorf("after %v: %v; want a passing TokenError after 15s and a grace of 5s", time.Since(start), err)
		}

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		if _, err = endpointConfig(hangs).Exchange(ended, "the-code", ""); !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("after %v: %v; want nothing sent for a caller who has gone already", time.Since(start), err)
		}
	})
}

func TestGuarantee13BoughtPairIsReturnedThoughItsTimeIsOver(t *testing.T) {
	for name, test := range map[string]struct{ slow, limit time.Duration }{
		"the caller's context has ended": {4 * time.Second, 3 * time.Second},
		"RefreshTimeout is over":         {17 * time.Second, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			g, err := endpointConfig(slowServer(test.slow, false)).Exchange(ctx, "the-code", "")
			if err != nil || g.RefreshToken != "new-refresh" {
				t.Errorf("%s: grant %v, error %v; want the pair", name, g, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if _, err := endpointConfig(slowServer(time.Minute, true)).Exchange(t.Context(), "the-code", ""); err == nil || time.Since(start) != 20*time.Second {
			t.Errorf("a transport that ignores its context holds Exchange for %v, error %v", time.Since(start), err)
		}
		<-time.After(time.Minute)
	})
}

func TestAuthCodeURLLeadsToThePortal(t *testing.T) {
	const query = "?client_id=app.1%26evil%3D1&state=a%26b%3Dc+%2F%23"
	for portal, want := range map[string]string{
		"example.bitrix24.com":               "https://example.bitrix24.com/oauth/authorize/",
		"example.bitrix24.com/":              "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com":       "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com/":      "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com/rest/": "https://example.bitrix24.com/oauth/authorize/",
		"example.bitrix24.com/rest/":         "https://example.bitrix24.com/oauth/authorize/",
		"//example.bitrix24.com":             "https://example.bitrix24.com/oauth/authorize/",
		"https://user:pass@portal.example":   "https://portal.example/oauth/authorize/",
		"portal.example:8443":                "https://portal.example:8443/oauth/authorize/",
		"127.0.0.1:8080":                     "https://127.0.0.1:8080/oauth/authorize/",
		"http://localhost:8080":              "http://localhost:8080/oauth/authorize/",
		"javascript://portal.example/alert":  "https://portal.example/oauth/authorize/",
		"portal.example?x=1#y":               "https://portal.example/oauth/authorize/",
		"por tal.example":                    "https://por%20tal.example/oauth/authorize/",
	} {
		c := endpointConfig(nil, func(c *b24oauth.Config) { c.ClientID = "app.1&evil=1" })
		if got := c.AuthCodeURL(portal, "a&b=c /#"); got != want+query {
			t.Errorf("AuthCodeURL(%q):\n got %s\nwant %s", portal, got, want+query)
		}
	}
}
