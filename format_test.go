package b24oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

// canaries are the secrets of a scenario, recognisable wherever they turn up.
var canaries = []string{"CANARYsecret7f3a", "CANARYrefresh91cc", "CANARYcode0b5e", "CANARYaccess44d2", "CANARYapplication8e"}

// secrets finds the canaries in whatever comes out.
var secrets = canary.Of(canaries...)

// leakySource is a user's own token source with a token in plain sight.
type leakySource struct{ Access *oauth2.Token }

func (s leakySource) Token() (*oauth2.Token, error) { return s.Access, nil }

func TestGuarantee8ExportedTypesDoNotTellTheirSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := answers(400, `{"error":"invalid_grant","error_description":"no CANARYrefresh91cc of CANARYsecret7f3a"}`)
		c := endpointConfig(srv, func(c *b24oauth.Config) { c.ClientSecret = canaries[0] })
		g := spent()
		g.RefreshToken, g.AccessToken, g.ApplicationToken = canaries[1], canaries[3], canaries[4]
		_, err := renewed(t, c, g)
		var te *b24oauth.TokenError
		if !errors.As(err, &te) {
			t.Fatal(err)
		}
		source := c.TokenSource(key)
		for name, v := range map[string]any{
			"Grant":              *g,
			"*Grant":             g,
			"*Config":            c,
			"*TokenSource":       source,
			"*Transport":         &b24oauth.Transport{Source: source},
			"*Transport, static": &b24oauth.Transport{Source: oauth2.StaticTokenSource(g.Token())},
			"*Transport, leaky":  &b24oauth.Transport{Source: leakySource{g.Token()}},
			"*TokenError":        te,
			"Event":              b24oauth.Event{Kind: b24oauth.EventRenewFailed, Key: key, Token: "1234abcd", Err: te},
			"*Event":             &b24oauth.Event{Kind: b24oauth.EventRenewFailed, Key: key, Token: "1234abcd", Err: te},
			"client":             c.Client(key),
		} {
			secrets.Check(t, name, canary.Value("it", v))
		}
	})
}

func TestExportedTypesTellWhoTheyAre(t *testing.T) {
	c := endpointConfig(nil)
	source := c.TokenSource(key)
	g := spent()
	for _, test := range []struct {
		v    any
		want string
	}{
		{c, `Config{client_id="app.1" store=*b24oauth.MemoryStore}`},
		{source, `TokenSource{key="portal"}`},
		{&b24oauth.Transport{Source: source}, `Transport{source=TokenSource{key="portal"} base=*http.Transport}`},
		{&b24oauth.Transport{Source: leakySource{}, Base: tokenServer(nil)}, `Transport{source=b24oauth_test.leakySource base=b24oauth_test.tokenServer}`},
		{&b24oauth.Transport{}, `Transport{source=<nil> base=*http.Transport}`},
		{new(b24oauth.MemoryStore), `MemoryStore`},
		{(*b24oauth.Config)(nil), `<nil>`},
		{(*b24oauth.TokenSource)(nil), `<nil>`},
		{(*b24oauth.Transport)(nil), `<nil>`},
		{g, `Grant{client_id="app.1" member_id="member" client_endpoint="https://portal.bitrix24.com/rest/" access_token=cce0c5d3 refresh_token=45c867e2 expiry=1999-01-01T01:00:00Z}`},
		{b24oauth.Grant{}, `Grant{client_id="" member_id="" client_endpoint="" access_token=none refresh_token=none expiry=0001-01-01T00:00:00Z}`},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(verb, test.v); got != test.want {
				t.Errorf("%T by %s:\n got %s\nwant %s", test.v, verb, got, test.want)
			}
		}
		want := test.want
		if strings.ContainsAny(want, `" =`) {
			want = strconv.Quote(want)
		}
		if got := logged(test.v); got != "e="+want && !strings.HasPrefix(want, `"Grant{`) {
			t.Errorf("%T logged:\n got %s\nwant e=%s", test.v, got, want)
		}
	}
}

func TestGrantIsLoggedAsAGroup(t *testing.T) {
	const want = "e.client_id=app.1 e.member_id=member e.client_endpoint=https://portal.bitrix24.com/rest/ e.access_token=cce0c5d3 e.refresh_token=45c867e2 e.expiry=1999-01-01T01:00:00.000Z"
	for _, v := range []any{spent(), *spent()} {
		if got := logged(v); got != want {
			t.Errorf("%T logged:\n got %s\nwant %s", v, got, want)
		}
	}
}

// chatty are authorization servers, and networks, that repeat what they were
// sent.
func chatty() map[string]tokenServer {
	echo := func(req *http.Request) string {
		query := req.URL.Query()
		if body, err := io.ReadAll(req.Body); err == nil && len(body) > 0 {
			query, _ = url.ParseQuery(string(body))
		}
		return strings.Join([]string{query.Get("client_secret"), query.Get("refresh_token"), query.Get("code"), query.Encode()}, " ")
	}
	says := func(status int, format string, header ...string) tokenServer {
		return func(req *http.Request) (*http.Response, error) {
			return answers(status, strings.ReplaceAll(format, "ECHO", echo(req)), header...)(req)
		}
	}
	fails := func(err func(text string, req *http.Request) error) tokenServer {
		return func(req *http.Request) (*http.Response, error) { return nil, err(echo(req), req) }
	}
	location := func(status int, prefix string) tokenServer {
		return func(req *http.Request) (*http.Response, error) {
			return answers(status, "", "Location", prefix+"?"+strings.ReplaceAll(echo(req), " ", "&"))(req)
		}
	}
	return map[string]tokenServer{
		"description":           says(400, `{"error":"invalid_grant","error_description":"bad ECHO"}`),
		"description, cut":      says(400, `{"error":"invalid_grant","error_description":"`+strings.Repeat("x", 190)+`ECHO"}`),
		"description, passing":  says(500, `{"error":"oops","error_description":"bad ECHO"}`),
		"code":                  says(400, `{"error":"ECHO"}`),
		"code, the secret only": says(400, `{"error":"CANARYsecret7f3a"}`),
		"HTML":                  says(502, "<html>ECHO</html>", "Content-Type", "text/html; x=CANARYsecret7f3a"),
		"no JSON":               says(200, "ECHO", "Content-Type", "CANARYsecret7f3a/CANARYrefresh91cc"),
		"no token":              says(200, `{"message":"ECHO"}`),
		"Retry-After":           says(503, "", "Retry-After", "CANARYsecret7f3a"),
		"Location":              location(302, "https://evil.example/"),
		"a bad Location":        location(302, "https://%zz\x7f/"),
		"a Location for POST":   location(308, "https://evil.example/"),
		"error with the URL":    fails(func(_ string, req *http.Request) error { return fmt.Errorf("cannot reach %s", req.URL) }),
		"error with all":        fails(func(text string, _ *http.Request) error { return errors.New(text) }),
		"url.Error": fails(func(_ string, req *http.Request) error {
			return &url.Error{Op: "Get", URL: req.URL.String(), Err: io.ErrUnexpectedEOF}
		}),
		"url.Error in another": fails(func(_ string, req *http.Request) error {
			return fmt.Errorf("proxy: %w", &url.Error{Op: "Get", URL: req.URL.String(), Err: &url.Error{Op: "Get", URL: req.URL.String(), Err: io.EOF}})
		}),
		"joined url.Errors": fails(func(_ string, req *http.Request) error {
			return errors.Join(&url.Error{Op: "Get", URL: req.URL.String(), Err: io.EOF}, &url.Error{Op: "Get", URL: req.URL.String(), Err: io.EOF})
		}),
		"timeout with the URL": fails(func(_ string, req *http.Request) error {
			return fmt.Errorf("%s: %w", req.URL, context.DeadlineExceeded)
		}),
		"body that breaks with the URL": func(req *http.Request) (*http.Response, error) {
			resp, err := answers(200, "")(req)
			resp.Body = io.NopCloser(failingReader{errors.New(echo(req))})
			return resp, err
		},
		"panic with the URL": func(req *http.Request) (*http.Response, error) { panic(echo(req)) },
	}
}

func TestGuarantee8ChattyServersAndNetworksMakeUsTellNoSecret(t *testing.T) {
	for name, srv := range chatty() {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					var log bytes.Buffer
					var events []b24oauth.Event
					c := endpointConfig(srv, func(c *b24oauth.Config) {
						c.ClientSecret, c.TokenMethod = canaries[0], method
						c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
						c.OnEvent = func(_ context.Context, e b24oauth.Event) {
							mu.Lock()
							defer mu.Unlock()
							events = append(events, e)
						}
					})
					g := spent()
					g.RefreshToken, g.AccessToken, g.ApplicationToken = canaries[1], canaries[3], canaries[4]
					_, refreshErr := renewed(t, c, g)
					synctest.Wait()
					_, exchangeErr := c.Exchange(t.Context(), canaries[2], "")
					_, clientErr := c.Client(key).Get("https://portal.bitrix24.com/rest/profile")
					if refreshErr == nil || exchangeErr == nil || clientErr == nil || len(events) == 0 || log.Len() == 0 {
						t.Fatalf("nothing to look at: %v %v %v, %d events, log %q", refreshErr, exchangeErr, clientErr, len(events), log.String())
					}
					secrets.Check(t, name, []canary.Output{{Place: "the log", Text: log.String()}})
					for _, err := range []error{refreshErr, exchangeErr, clientErr} {
						secrets.Check(t, name, canary.Error(err))
					}
					for _, e := range events {
						secrets.Check(t, name, slices.Concat(canary.Value("an event", e), canary.Value("an event by pointer", &e)))
					}
					if strings.Contains(name, "timeout") && !errors.Is(exchangeErr, context.DeadlineExceeded) {
						t.Errorf("%v is no timeout any more", exchangeErr)
					}
					if name == "url.Error" && !errors.Is(exchangeErr, io.ErrUnexpectedEOF) {
						t.Errorf("%v has lost its cause", exchangeErr)
					}
				})
			})
		}
	}
}

func TestPortalNamedAfterASecretIsNotQuoted(t *testing.T) {
	c := endpointConfig(answers(200, `{"access_token":"a","refresh_token":"r","client_endpoint":"http://CANARYsecret7f3a/rest/"}`))
	c.ClientSecret = canaries[0]
	g, err := c.Exchange(t.Context(), canaries[2], "")
	if err != nil {
		t.Fatal(err)
	}
	secrets.Check(t, "the grant", canary.Value("the grant", g))
	if err := c.Save(t.Context(), key, g); err == nil || len(secrets.In(err.Error())) > 0 {
		t.Errorf("error %v", err)
	}
}

func TestMarshallingIsRefusedWithAReason(t *testing.T) {
	g, c := spent(), endpointConfig(nil)
	for name, test := range map[string]struct {
		v    any
		text string
	}{
		"Grant":              {*g, "MarshalBinary"},
		"*Grant":             {g, "MarshalBinary"},
		"Grant in a struct":  {struct{ G b24oauth.Grant }{*g}, "MarshalBinary"},
		"Grants in a slice":  {[]b24oauth.Grant{*g}, "MarshalBinary"},
		"*Config":            {c, "client secret"},
		"*Config in a map":   {map[string]any{"c": c}, "client secret"},
		"*Transport":         {&b24oauth.Transport{Source: leakySource{g.Token()}}, "tokens"},
		"*Transport, inside": {struct{ C any }{c.Client(key)}, "tokens"},
	} {
		if data, err := json.Marshal(test.v); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s as JSON: %s, error %v; want one that says %q", name, data, err, test.text)
		}
		if strings.Contains(name, " in") {
			continue // XML has no maps, and wants a name for a struct
		}
		if data, err := xml.Marshal(test.v); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s as XML: %s, error %v; want one that says %q", name, data, err, test.text)
		}
	}
}

func TestTokenKeepsItsFieldsAsExtraAndNoRefreshToken(t *testing.T) {
	g := spent()
	g.Expiry = time.Now().Add(time.Hour)
	token := g.Token()
	if token.AccessToken != g.AccessToken || !token.Expiry.Equal(g.Expiry) || token.RefreshToken != "" || token.Type() != "Bearer" {
		t.Errorf("token %+v", token)
	}
	for name, want := range map[string]any{
		"member_id": "member", "client_endpoint": g.ClientEndpoint, "server_endpoint": g.ServerEndpoint,
		"scope": "crm,task", "status": "L", "user_id": int64(7),
		"refresh_token": nil, "application_token": nil, "client_id": nil,
	} {
		if got := token.Extra(name); got != want {
			t.Errorf("Extra(%q) = %v, want %v", name, got, want)
		}
	}
}

// overHTTP2 starts a server that speaks HTTP/2, and returns a client that
// trusts it.
func overHTTP2(t *testing.T, handle http.HandlerFunc) (*httptest.Server, *http.Client) {
	t.Helper()
	ts := httptest.NewUnstartedServer(handle)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return ts, ts.Client()
}

// headers is what a trace heard, and the context in which it listens.
type headers struct {
	context.Context
	mu    sync.Mutex // guards heard
	heard map[string]string
}

func listen(ctx context.Context) *headers {
	h := &headers{heard: make(map[string]string)}
	h.Context = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(name string, values []string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.heard[name] = strings.Join(values, ",")
		},
	})
	return h
}

func (h *headers) check(t *testing.T, path string, secrets ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := h.heard[":path"]; got != path {
		t.Errorf("the trace heard the path %q, want %q", got, path)
	}
	for name, value := range h.heard {
		for _, secret := range secrets {
			if strings.Contains(value, secret) {
				t.Errorf("the trace heard a secret: %s: %s", name, value)
			}
		}
	}
}

func TestTraceThatIsNilUnderAnotherKeyIsHandedOn(t *testing.T) {
	type own struct{}
	ctx := listen(context.WithValue(t.Context(), own{}, (*httptrace.ClientTrace)(nil)))
	p := newProgramAt(t, stubPortal)
	resp, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if trace, ok := req.Context().Value(own{}).(*httptrace.ClientTrace); !ok || trace != nil {
			t.Errorf("the value became %v", trace)
		}
		return answer(200, "{}"), nil
	})).RoundTrip(get(t, stubPortal+"m").WithContext(ctx))
	status(t, resp, err)
}

func TestGuarantee8TraceOfTheCallerHearsNoSecretOverHTTP2(t *testing.T) {
	portal, client := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came by %s", r.Proto)
		}
	})
	for _, placement := range []b24oauth.Placement{b24oauth.PlaceAuto, b24oauth.PlaceHeader} {
		p := newProgramAt(t, portal.URL+"/rest/")
		tr := p.over(client.Transport)
		tr.Placement = placement
		ctx := listen(t.Context())
		req := get(t, portal.URL+"/rest/m?id=1").WithContext(ctx)
		req.Header.Set("X-Own", "own")
		resp, err := tr.RoundTrip(req)
		status(t, resp, err)
		ctx.check(t, "/rest/m", "first")
		if got := ctx.heard["x-own"]; got != "own" {
			t.Errorf("placement %d: the trace heard X-Own: %q", placement, got)
		}
		if got := ctx.heard["authorization"]; (got != "") != (placement == b24oauth.PlaceHeader) {
			t.Errorf("placement %d: the trace heard Authorization: %q", placement, got)
		}
	}

	server, client := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"access_token":"first","refresh_token":"second","client_endpoint":"https://portal.example/rest/"}`))
	})
	c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient, c.TokenURL = client, server.URL+"/oauth/token/" })
	ctx := listen(t.Context())
	if _, err := c.Exchange(ctx, "the-code", ""); err != nil {
		t.Fatal(err)
	}
	ctx.check(t, "/oauth/token/", "the-code", "the-client-secret")
}
