package sandbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

func TestTheButtonsDoWhatTheyStandFor(t *testing.T) {
	f := open(t)
	var g, second sandbox.Grant
	f.post("install", nil, &g)
	expect(t, "a new grant", f.call(g), "200")

	f.post("limit", url.Values{"n": {"2"}}, &struct{}{})
	expect(t, "the first call over the limit", f.call(g), "503 QUERY_LIMIT_EXCEEDED")
	expect(t, "the second one", f.call(g), "503 QUERY_LIMIT_EXCEEDED")
	expect(t, "the third one", f.call(g), "200")

	f.post("expire", nil, &struct{}{})
	expect(t, "an expired token", f.call(g), "401 expired_token")
	expect(t, "its refresh", f.renew(g), "200")

	f.post("install", nil, &second)
	f.post("kill", nil, &struct{}{})
	expect(t, "a dead refresh token", f.renew(second), "400 invalid_grant")
	expect(t, "its access token", f.call(second), "200")

	var third sandbox.Grant
	f.post("install", nil, &third)
	f.post("cut", nil, &struct{}{})
	resp, err := f.server.Client().PostForm(f.server.TokenURL(), nil)
	if err == nil {
		resp.Body.Close()
		t.Error("a token answer that was cut arrives")
	}
	expect(t, "the token request after it", f.renew(third), "200")
}

func TestInstallAnswersWhatAnInstallationBrings(t *testing.T) {
	f := open(t)
	f.server.SetLifetime(30_000_000_000)
	var g sandbox.Grant
	f.post("install", nil, &g)
	if g.AccessToken == "" || g.RefreshToken == "" || g.ApplicationToken == "" || g.MemberID == "" || g.UserID == 0 || g.Scope == "" || g.Status == "" || g.Expires == 0 {
		t.Error("fields are missing")
	}
	if g.ExpiresIn != 30 || "http://"+g.Domain != f.server.URL() || g.ClientEndpoint != f.server.Endpoint() || !strings.HasSuffix(g.ServerEndpoint, "/rest/") {
		t.Errorf("expires_in %d, domain %s, client_endpoint %s, server_endpoint %s", g.ExpiresIn, g.Domain, g.ClientEndpoint, g.ServerEndpoint)
	}
}

func TestARenamedPortalKeepsItsPageAtBothAddresses(t *testing.T) {
	f := open(t)
	old := f.server.URL()
	var renamed struct{ Portal, Endpoint, Former string }
	f.post("rename", nil, &renamed)
	if renamed.Portal != f.server.URL() || renamed.Endpoint != f.server.Endpoint() || renamed.Former != old || old == renamed.Portal {
		t.Errorf("renamed: %+v", renamed)
	}
	for _, portal := range []string{old, renamed.Portal} {
		var state sandbox.State
		f.read(f.do(f.request("GET", portal+sandbox.Path+"state", nil)), &state)
		expect(t, "the portal as "+portal+" tells it", state.Portal, renamed.Portal)
	}
}

func TestTheStateTellsWhatHappened(t *testing.T) {
	f := open(t)
	g := f.Install()
	f.call(g)
	f.post("expire", nil, nil)
	f.call(g)
	f.renew(g)
	f.post("install", nil, nil)
	f.post("expire", nil, nil)
	f.post("install", nil, nil)
	f.renew(f.Install())
	f.post("kill", nil, nil)
	f.post("install", nil, nil)

	state := f.state()
	if state.Counters != (sandbox.Counters{Requests: 4, Refreshes: 2, Refusals: 1}) {
		t.Errorf("counters: %+v", state.Counters)
	}
	var standings []string
	for _, g := range state.Grants {
		standings = append(standings, fmt.Sprint(g.UserID, " ", g.State))
	}
	expect(t, "grants", strings.Join(standings, ", "), "5 good, 4 dead, 3 dead, 2 dead, 1 dead")
	var log []string
	for _, r := range state.Requests {
		log = append(log, strings.TrimSpace(fmt.Sprint(r.ID, " ", r.Method, " ", r.Path, " ", r.AuthIn, " ", r.Status, " ", r.Code)))
	}
	expect(t, "requests", strings.Join(log, "\n"), "1 GET /rest/crm.deal.list query 200\n2 GET /rest/crm.deal.list query 401 expired_token\n3 POST /oauth/token/  200\n4 POST /oauth/token/  200")
	expect(t, "parameters of a call", state.Requests[0].Params, `{"filter":{"STAGE_ID":"NEW"}}`)
	if state.Portal != f.server.URL() || state.TokenURL != f.server.TokenURL() || state.ClientID != f.server.ClientID() {
		t.Errorf("the state is that of another portal: %+v", state)
	}
}

func TestTheStateAndThePageTellNoToken(t *testing.T) {
	f := open(t)
	g := f.Install()
	f.call(g)
	f.renew(g)
	next := f.Install()
	f.do(f.request("POST", f.server.Endpoint()+"profile", url.Values{"access_token": {next.AccessToken}}))
	for _, path := range []string{"", "state"} {
		body := f.get(sandbox.Path + path).body
		for _, token := range []string{g.AccessToken, g.RefreshToken, next.AccessToken, next.RefreshToken} {
			if strings.Contains(body, token) {
				t.Errorf("%s%s tells a token", sandbox.Path, path)
			}
		}
	}
}

func TestAnErrorIsJSONAndSaysWhatToDo(t *testing.T) {
	f := open(t)
	for _, test := range []struct {
		name, method, path string
		form               url.Values
		status             int
		code, advice       string
	}{
		{"a change by GET", "GET", "expire", nil, 405, "use_post", "curl -X POST /_sandbox/expire"},
		{"an unknown path", "GET", "nothing", nil, 404, "not_found", "POST /_sandbox/{cut,expire,install,"},
		{"another method", "PUT", "state", nil, 404, "not_found", "GET /_sandbox/state"},
		{"no number", "POST", "limit", url.Values{"n": {"many"}}, 400, "bad_number", "curl -d n=3 /_sandbox/limit"},
		{"a negative number", "POST", "cut", url.Values{"n": {"-1"}}, 400, "bad_number", "a number from 0"},
		{"a form that is too large", "POST", "limit", url.Values{"n": {strings.Repeat("1", 70<<10)}}, 400, "bad_form", "up to 65536 bytes"},
		{"no event", "POST", "trigger", nil, 400, "unknown_event", "ONAPPINSTALL"},
		{"no address", "POST", "trigger", url.Values{"event": {"ONAPPINSTALL"}}, 400, "bad_address", "http://127.0.0.1"},
		{"an address that is none", "POST", "trigger", url.Values{"event": {"ONAPPINSTALL"}, "forward_to": {"file:///etc/passwd"}}, 400, "bad_address", "http://127.0.0.1"},
		{"a robot with data", "POST", "trigger", url.Values{"event": {"robot"}, "forward_to": {"http://127.0.0.1/"}, "data[A]": {"1"}}, 400, "no_data", "leave it out"},
		{"an event of nothing", "POST", "trigger", url.Values{"event": {"ONTASKADD"}, "forward_to": {"http://127.0.0.1/"}}, 400, "not_installed", "ONAPPINSTALL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := f.do(f.request(test.method, f.server.URL()+sandbox.Path+test.path, test.form))
			var p sandbox.Problem
			f.read(a, &p)
			if a.status != test.status || p.Code != test.code || !strings.Contains(p.Description, test.advice) {
				t.Errorf("%d %s, want %d %s with %q", a.status, a.body, test.status, test.code, test.advice)
			}
		})
	}
	if len(f.state().Grants) != 0 {
		t.Error("a refused request has issued a grant")
	}
}

func TestForeignPagesAreRefusedEverywhere(t *testing.T) {
	f := open(t)
	for _, path := range []string{"", "state", "events", "install", "trigger", "page/page.js"} {
		for _, method := range []string{"GET", "POST"} {
			r := f.request(method, f.server.URL()+sandbox.Path+path, nil)
			r.Header.Set("Origin", "https://evil.example")
			if a := f.do(r); a.status != http.StatusForbidden {
				t.Errorf("%s %s from another origin: %d", method, path, a.status)
			}
			r = f.request(method, f.server.URL()+sandbox.Path+path, nil)
			r.Host = "evil.example"
			if a := f.do(r); a.status != http.StatusForbidden {
				t.Errorf("%s %s by a rebound name: %d", method, path, a.status)
			}
		}
	}
	if len(f.state().Grants) != 0 {
		t.Error("a foreign page has made a grant")
	}
}

func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	f := open(t)
	page := f.get(sandbox.Path)
	policy := page.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; ") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("Content-Security-Policy: %s", policy)
	}
	for _, shown := range []string{f.server.URL(), f.server.TokenURL(), f.server.ClientID(), f.server.ClientSecret()} {
		if !strings.Contains(page.body, ">"+shown+"<") {
			t.Errorf("the page does not show %s", shown)
		}
	}
	for path, contentType := range map[string]string{"page/page.js": "text/javascript", "page/page.css": "text/css"} {
		a := f.get(sandbox.Path + path)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), contentType) || !strings.Contains(page.body, `"`+path+`"`) {
			t.Errorf("%s: %d %s", path, a.status, a.header.Get("Content-Type"))
		}
		if strings.Contains(a.body, "https://") || strings.Contains(a.body, "innerHTML") {
			t.Errorf("%s asks elsewhere, or reads what came as HTML", path)
		}
	}
	if len(f.server.Requests()) != 0 {
		t.Error("the page's own requests are in the log")
	}
}
