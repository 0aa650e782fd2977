package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/proxy"
)

const (
	key    = "example"
	bearer = "the-proxys-own-token"
)

// world is a portal, the proxy before it, and what the proxy has logged.
type world struct {
	*b24test.Server
	config *b24oauth.Config
	grant  *b24oauth.Grant
	proxy  *httptest.Server
	log    *lockedBuffer
}

func start(t *testing.T, change ...func(*proxy.Options)) *world {
	t.Helper()
	w := &world{Server: b24test.NewServer(), log: new(lockedBuffer)}
	t.Cleanup(w.Close)
	w.config = w.Config()
	w.config.Store = new(b24oauth.MemoryStore)
	w.grant = w.Install()
	if err := w.config.Save(t.Context(), key, w.grant); err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{
		Bearer: bearer,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		Repair: func(error) string { return "b24oauth login --key example" },
	}
	for _, c := range change {
		c(&o)
	}
	w.proxy = httptest.NewServer(proxy.New(w.config, key, o))
	t.Cleanup(w.proxy.Close)
	return w
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// do sends a request to the proxy as a program does, and returns the answer.
func (w *world) do(t *testing.T, method, path string, body io.Reader, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.proxy.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(req)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

func TestAProgramCallsWithoutAToken(t *testing.T) {
	w := start(t)
	for _, test := range []struct{ method, path, contentType, body, want string }{
		{"GET", "/rest/crm.deal.list?start=50", "", "", `"start":"50"`},
		{"POST", "/rest/crm.deal.list.json", "application/x-www-form-urlencoded", "filter%5BID%5D=7", `"ID":"7"`},
		{"POST", "/rest/crm.deal.add", "application/json", `{"fields":{"TITLE":"A deal"}}`, `"TITLE":"A deal"`},
		{"POST", "/rest/api/tasks.task.get", "application/json", `{"id":7}`, `tasks.task.get`},
	} {
		resp, body := w.do(t, test.method, test.path, strings.NewReader(test.body), header("Content-Type", test.contentType))
		if resp.StatusCode != 200 || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: %d %s", test.method, test.path, resp.StatusCode, body)
		}
	}
}

func TestAProgramNeverMeetsAnExpiredToken(t *testing.T) {
	w := start(t)
	w.ExpireAccessTokens()
	resp, body := w.do(t, "POST", "/rest/crm.deal.add", strings.NewReader("fields%5BTITLE%5D=Once"))
	if resp.StatusCode != 200 || !strings.Contains(body, "Once") || w.Refreshes() != 1 {
		t.Errorf("%d %s after %d renewals", resp.StatusCode, body, w.Refreshes())
	}
}

func TestWhatCannotBeSentAgainIsAskedForAgain(t *testing.T) {
	w := start(t)
	for name, body := range map[string]io.Reader{
		"too long":          bytes.NewReader(make([]byte, proxy.Replayable+1)),
		"of unknown length": io.MultiReader(strings.NewReader("a=b")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.config.TokenSource(key).Renew(t.Context(), nil); err != nil {
				t.Fatal(err) // ends the pause that a refusal of before has begun
			}
			w.ExpireAccessTokens()
			resp, text := w.do(t, "POST", "/rest/disk.upload", body, header("Content-Type", "application/octet-stream"))
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(text, "send the request again") {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			if resp, text := w.do(t, "POST", "/rest/disk.upload", strings.NewReader("a=b")); resp.StatusCode != 200 {
				t.Errorf("again: %d %s", resp.StatusCode, text)
			}
		})
	}
}

func TestVersion3IsAskedAgainOnceForADenialThatMayBeTheTokens(t *testing.T) {
	w := start(t)
	const denied = `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`
	w.RefuseNext(2, b24test.Answer{Status: 401, Body: denied})
	stream := func() io.Reader { return io.MultiReader(strings.NewReader(`{"id":7}`)) }
	json := header("Content-Type", "application/json")
	if resp, text := w.do(t, "POST", "/rest/api/tasks.task.get", stream(), json); resp.StatusCode != 503 {
		t.Errorf("at first: %d %s", resp.StatusCode, text)
	}
	// The renewed token did not help, so it is a permission that is missing.
	if resp, text := w.do(t, "POST", "/rest/api/tasks.task.get", stream(), json); resp.StatusCode != 401 || text != denied {
		t.Errorf("then: %d %s", resp.StatusCode, text)
	}
}

func TestNothingOfTheProgramsOwnReachesThePortalButTheCall(t *testing.T) {
	w := start(t)
	w.do(t, "POST", "/rest/profile?auth=planted-token", strings.NewReader("auth=planted-token"),
		header("Cookie", "session=planted"), header("Referer", "http://planted/"), header("Via", "1.1 planted"),
		header("X-Forwarded-For", "planted"), header("X-Forwarded-Port", "planted"), header("X-Real-IP", "planted"), header("Forwarded", "for=planted"))
	r := w.Requests()[0]
	if r.Status != 200 || r.Auth != w.grant.AccessToken {
		t.Errorf("the portal answered %d and saw the token %q, in %s", r.Status, r.Auth, r.AuthIn)
	}
	for name, values := range r.Header {
		if v := strings.Join(values, " "); strings.Contains(v, "planted") || strings.Contains(v, bearer) {
			t.Errorf("the portal got %s: %s", name, v)
		}
	}
}

func TestWithoutItsTokenTheProxyPassesNothingOn(t *testing.T) {
	w := start(t)
	for name, change := range map[string]func(*http.Request){
		"none":           func(r *http.Request) { r.Header.Del("Authorization") },
		"another":        header("Authorization", "Bearer another"),
		"a part of it":   header("Authorization", "Bearer "+bearer[:5]),
		"of other kind":  header("Authorization", "Basic "+bearer),
		"the portal's":   header("Authorization", "Bearer "+w.grant.AccessToken),
		"nothing at all": header("Authorization", "Bearer "),
	} {
		resp, body := w.do(t, "GET", "/rest/profile", nil, change)
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" || !strings.Contains(body, "PROXY_TOKEN_REQUIRED") {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	if n := len(w.Requests()); n != 0 {
		t.Errorf("%d requests were passed on", n)
	}
	if log := w.log.String(); strings.Contains(log, bearer) || strings.Contains(log, w.grant.AccessToken) {
		t.Errorf("the log tells a token: %s", log)
	}
}

func TestAWebPageCannotCallThroughTheProxy(t *testing.T) {
	w := start(t, func(o *proxy.Options) { o.Bearer = "" })
	if resp, body := w.do(t, "GET", "/rest/profile", nil, func(r *http.Request) { r.Header.Del("Authorization") }); resp.StatusCode != 200 {
		t.Fatalf("a program is answered %d %s", resp.StatusCode, body)
	}
	for name, change := range map[string]func(*http.Request){
		"of another site":          header("Origin", "https://planted.example"),
		"of another port":          header("Origin", "http://127.0.0.1:1"),
		"that hides its origin":    header("Origin", "null"),
		"that the browser names":   header("Sec-Fetch-Site", "cross-site"),
		"under a name of its own":  header("Host", "planted.example"),
		"under the portal's name":  header("Host", "example.bitrix24.com"),
		"of the same site by port": header("Sec-Fetch-Site", "same-site"),
	} {
		for _, method := range []string{"GET", "POST"} {
			if resp, body := w.do(t, method, "/rest/crm.deal.add", nil, change); resp.StatusCode != 403 {
				t.Errorf("%s by a page %s: %d %s", method, name, resp.StatusCode, body)
			}
		}
	}
	if n := len(w.Requests()); n != 1 {
		t.Errorf("%d requests were passed on", n-1)
	}
}

func TestAProxyForOtherMachinesIsAskedByAnyNameButOnlyWithItsToken(t *testing.T) {
	named := header("Host", "proxy.example:8025")
	every := func(o *proxy.Options) { o.AnyHost = true }
	w := start(t, every)
	if resp, body := w.do(t, "POST", "/rest/profile", nil, named); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := w.do(t, "POST", "/rest/profile", nil, named, header("Origin", "https://planted.example")); resp.StatusCode != 403 {
		t.Errorf("a page of another origin: %d %s", resp.StatusCode, body)
	}
	if resp, body := w.do(t, "POST", "/rest/profile", nil, named, header("Authorization", "Bearer another")); resp.StatusCode != 401 {
		t.Errorf("without the token: %d %s", resp.StatusCode, body)
	}
	open := start(t, every, func(o *proxy.Options) { o.Bearer = "" })
	if resp, body := open.do(t, "POST", "/rest/profile", nil, named); resp.StatusCode != 403 {
		t.Errorf("if none is asked for: %d %s", resp.StatusCode, body)
	}
}

func TestOnlyMethodsArePassedOn(t *testing.T) {
	w := start(t)
	for _, path := range []string{"/", "/rest", "/rest/", "/oauth/token/", "/rest/../oauth/token/", "/rest/%2e%2e/oauth/token/", "/rest//evil.example/", "/rest/a/./b", "/rest/a%5c..%5cb", "/rest/%252e%252e/x"} {
		resp, body := w.do(t, "GET", path, nil, func(r *http.Request) { r.URL.Opaque = path })
		if resp.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if n := len(w.Requests()) + len(w.TokenRequests()); n != 0 {
		t.Errorf("%d requests were passed on", n)
	}
}

func TestAWebhooksSecretIsNotPassedOnAndNotLogged(t *testing.T) {
	w := start(t)
	for _, path := range []string{"/rest/1/planted-secret/profile", "/rest/api/1/planted-secret/tasks.task.get", "/rest/1/planted-secret/../x", "/oauth/planted-secret", "/rest/profile?aplogin=1&ap=planted-secret", "/rest/profile?auth%5Baplogin%5D=1&%20auth[ap]=planted-secret"} {
		if resp, body := w.do(t, "GET", path+"?auth=planted-secret", nil); resp.StatusCode != 404 || strings.Contains(body, "planted") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if n := len(w.Requests()); n != 0 || strings.Contains(w.log.String(), "planted") {
		t.Errorf("%d requests were passed on; the log says %s", n, w.log)
	}
}

func TestThePortalsAnswersPassAsTheyAre(t *testing.T) {
	w := start(t)
	w.RateLimit(1)
	if resp, body := w.do(t, "GET", "/rest/profile", nil); resp.StatusCode != 503 || !strings.Contains(body, "QUERY_LIMIT_EXCEEDED") {
		t.Errorf("a limit: %d %s", resp.StatusCode, body)
	}
	w.RefuseNext(1, b24test.Answer{Status: 401, Body: `{"error":"ACCESS_DENIED"}`})
	if resp, body := w.do(t, "POST", "/rest/profile", io.MultiReader(strings.NewReader("a=b"))); resp.StatusCode != 401 || body != `{"error":"ACCESS_DENIED"}` {
		t.Errorf("a permission: %d %s", resp.StatusCode, body)
	}
	w.RefuseNext(1, b24test.Answer{Status: 200, Header: http.Header{"Set-Cookie": {"a=b"}, "X-Portal": {"yes"}}, Body: "{}"})
	if resp, _ := w.do(t, "GET", "/rest/profile", nil); resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("X-Portal") != "yes" {
		t.Errorf("the headers are %v", resp.Header)
	}
}

func TestATokenThatCannotBeHadIsNoExpiredToken(t *testing.T) {
	for _, test := range []struct {
		name   string
		breaks func(*world)
		status int
		want   string
	}{
		{"dead", func(w *world) { w.KillGrants(); w.ExpireAccessTokens() }, 502, "to repair it: b24oauth login --key example"},
		{"deleted", func(w *world) { w.config.Delete(t.Context(), key) }, 502, "no grant stored"},
		{"away", func(w *world) { w.FailTokens(9, b24test.Answer{Status: 503}); w.ExpireAccessTokens() }, 503, "TOKEN_UNAVAILABLE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t)
			test.breaks(w)
			resp, body := w.do(t, "GET", "/rest/profile", nil)
			var answer struct{ Error, ErrorDescription string }
			if err := json.Unmarshal([]byte(strings.ReplaceAll(body, "error_description", "errordescription")), &answer); err != nil || answer.Error == "" {
				t.Errorf("%s is no error of Bitrix24's form: %v", body, err)
			}
			if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if (resp.Header.Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
			for _, secret := range []string{w.grant.AccessToken, w.grant.RefreshToken, w.ClientSecret()} {
				if strings.Contains(body+w.log.String(), secret) {
					t.Errorf("a secret is told: %s %s", body, w.log)
				}
			}
		})
	}
}

func TestManyProgramsCallAtOnceAndOneRenewalServesThem(t *testing.T) {
	w := start(t)
	w.ExpireAccessTokens()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if resp, body := w.do(t, "POST", "/rest/crm.deal.add", strings.NewReader(fmt.Sprintf("n=%d", i))); resp.StatusCode != 200 || !strings.Contains(body, fmt.Sprintf(`"n":"%d"`, i)) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
	wg.Wait()
	if n := w.Refreshes(); n != 1 {
		t.Errorf("%d renewals", n)
	}
}
