package b24test_test

import (
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestInstallBringsEveryFieldOfAGrant(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		before := time.Now()
		g := srv.Install()
		authHost := strings.TrimSuffix(srv.TokenURL(), "/oauth/token/")
		want := &b24oauth.Grant{
			ClientID:         srv.ClientID(),
			MemberID:         g.MemberID,
			ClientEndpoint:   srv.URL() + "/rest/",
			ServerEndpoint:   authHost + "/rest/",
			AccessToken:      g.AccessToken,
			RefreshToken:     g.RefreshToken,
			ApplicationToken: g.ApplicationToken,
			Issued:           g.Issued,
			Expiry:           g.Issued.Add(time.Hour),
			Scope:            "crm,entity,im,task",
			Status:           "L",
			UserID:           1,
		}
		if diff := cmp.Diff(*want, *g); diff != "" {
			t.Errorf("grant (-want +got):\n%s", diff)
		}
		if g.Issued.Before(before) || g.Issued.After(time.Now()) {
			t.Errorf("issued %v, not now", g.Issued)
		}
		for name, token := range map[string]string{"access": g.AccessToken, "refresh": g.RefreshToken} {
			if b, err := hex.DecodeString(token); err != nil || len(b) != 35 {
				t.Errorf("%s token %q is not 70 hex characters", name, token)
			}
		}
		if g.MemberID == "" || g.ApplicationToken == "" {
			t.Error("no member_id or application_token")
		}
		other := srv.Install()
		if other.UserID == g.UserID || other.AccessToken == g.AccessToken || other.MemberID != g.MemberID {
			t.Errorf("a second installation is not for another user of the same portal: %v and %v", g, other)
		}
	})
}

func TestTokenAnswersCarryTheDocumentedFields(t *testing.T) {
	srv := newServer(t)
	refreshFields := []string{"access_token", "client_endpoint", "domain", "expires", "expires_in", "member_id",
		"refresh_token", "scope", "server_endpoint", "status", "user_id"}
	codeFields := slices.DeleteFunc(slices.Clone(refreshFields), func(f string) bool { return f == "expires" || f == "user_id" })
	authHost, _ := url.Parse(srv.TokenURL())
	portal, _ := url.Parse(srv.URL())

	tests := []struct {
		name   string
		answer func() answer
		fields []string
		domain string
	}{
		{"refresh by GET", func() answer { return exchange(t, srv, refreshParams(srv, srv.Install().RefreshToken)) }, refreshFields, authHost.Host},
		{"refresh by form", func() answer {
			return post(t, srv, srv.TokenURL(), formType, refreshParams(srv, srv.Install().RefreshToken).Encode())
		}, refreshFields, authHost.Host},
		{"refresh at the portal", func() answer {
			return get(t, srv, srv.URL()+"/oauth/token/?"+refreshParams(srv, srv.Install().RefreshToken).Encode())
		}, refreshFields, portal.Host},
		{"code", func() answer { return exchange(t, srv, codeParams(srv, srv.Code())) }, codeFields, authHost.Host},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.answer()
			o := a.object(t)
			if diff := cmp.Diff(tt.fields, slices.Sorted(maps.Keys(o))); diff != "" || a.status != http.StatusOK {
				t.Fatalf("status %d, fields (-want +got):\n%s", a.status, diff)
			}
			if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
				t.Errorf("Content-Type %q", ct)
			}
			got := []any{o["domain"], o["client_endpoint"], o["server_endpoint"], o["expires_in"], o["status"]}
			want := []any{tt.domain, srv.Endpoint(), "http://" + authHost.Host + "/rest/", 3600.0, "L"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
			if a := call(t, srv, o["access_token"].(string)); a.status != http.StatusOK {
				t.Errorf("the new token is refused: %d %s", a.status, a.body)
			}
		})
	}
	if authHost.Host == portal.Host {
		t.Error("authorization server and portal share an address")
	}
}

func TestTokenErrorsAreThoseOfTheProtocol(t *testing.T) {
	without := func(v url.Values, names ...string) url.Values {
		for _, name := range names {
			v.Del(name)
		}
		return v
	}
	with := func(v url.Values, name, value string) url.Values {
		v.Set(name, value)
		return v
	}
	tests := []struct {
		name   string
		params func(*b24test.Server) url.Values
		status int
		code   string
	}{
		{"unknown client", func(s *b24test.Server) url.Values {
			return with(refreshParams(s, s.Install().RefreshToken), "client_id", "local.other")
		}, 200, "wrong_client"},
		{"no client", func(s *b24test.Server) url.Values {
			return without(refreshParams(s, s.Install().RefreshToken), "client_id", "client_secret")
		}, 200, "wrong_client"},
		{"wrong secret", func(s *b24test.Server) url.Values {
			return with(refreshParams(s, s.Install().RefreshToken), "client_secret", "guess")
		}, 400, "invalid_client"},
		{"unknown refresh token", func(s *b24test.Server) url.Values { return refreshParams(s, "guess") }, 400, "invalid_grant"},
		{"no refresh token", func(s *b24test.Server) url.Values { return refreshParams(s, "") }, 400, "invalid_request"},
		{"no grant_type", func(s *b24test.Server) url.Values {
			return without(refreshParams(s, s.Install().RefreshToken), "grant_type")
		}, 400, "invalid_request"},
		{"foreign grant_type", func(s *b24test.Server) url.Values {
			return with(refreshParams(s, s.Install().RefreshToken), "grant_type", "password")
		}, 400, "unsupported_grant_type"},
		{"killed grant", func(s *b24test.Server) url.Values {
			g := s.Install()
			s.KillGrants()
			return refreshParams(s, g.RefreshToken)
		}, 400, "invalid_grant"},
		{"expired refresh token", func(s *b24test.Server) url.Values {
			g := s.Install()
			s.ExpireRefreshTokens()
			return refreshParams(s, g.RefreshToken)
		}, 401, "expired_token"},
		{"unknown code", func(s *b24test.Server) url.Values { return codeParams(s, "guess") }, 400, "invalid_grant"},
		{"no code", func(s *b24test.Server) url.Values { return codeParams(s, "") }, 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := newServer(t)
			a := exchange(t, srv, tt.params(srv))
			if got := a.object(t)["error"]; a.status != tt.status || got != tt.code {
				t.Errorf("answer %d %v, want %d %s", a.status, got, tt.status, tt.code)
			}
			r := last(t, srv.TokenRequests())
			if r.Status != tt.status || r.Code != tt.code || srv.Refreshes() != 0 {
				t.Errorf("log says %d %q and %d refreshes", r.Status, r.Code, srv.Refreshes())
			}
		})
	}
}

func TestTokenEndpointUnderstandsNeitherJSONNorBasic(t *testing.T) {
	srv := newServer(t)
	params := refreshParams(srv, srv.Install().RefreshToken)

	basic := request(t, "POST", srv.TokenURL(), formType, url.Values{
		"grant_type": params["grant_type"], "refresh_token": params["refresh_token"],
	}.Encode())
	basic.SetBasicAuth(srv.ClientID(), srv.ClientSecret())
	body := `{"grant_type":"refresh_token","client_id":"` + srv.ClientID() + `","client_secret":"` + srv.ClientSecret() +
		`","refresh_token":"` + params.Get("refresh_token") + `"}`

	for name, req := range map[string]*http.Request{
		"Basic": basic,
		"JSON":  request(t, "POST", srv.TokenURL(), jsonType, body),
	} {
		if a := do(t, srv, req); a.status != http.StatusOK || a.body != `{"error":"wrong_client"}` {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestTokenPathNeedsItsSlash(t *testing.T) {
	srv := newServer(t)
	a := get(t, srv, strings.TrimSuffix(srv.TokenURL(), "/")+"?"+refreshParams(srv, srv.Install().RefreshToken).Encode())
	if a.status != http.StatusNotFound || !strings.HasPrefix(a.body, "<html>") {
		t.Errorf("answer %d %q, want 404 and HTML", a.status, a.body)
	}
}

func TestRefreshTokenWorksOnce(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	refresh(t, srv, g.RefreshToken)
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 400 || a.object(t)["error"] != "invalid_grant" {
		t.Errorf("second exchange: %d %s", a.status, a.body)
	}
	if n := srv.Refreshes(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	if a := call(t, srv, g.AccessToken); a.status != 200 {
		t.Errorf("the refresh ended the older access token: %d", a.status)
	}
}

func TestCodeWorksOnce(t *testing.T) {
	srv := newServer(t)
	params := codeParams(srv, srv.Code())
	if a := exchange(t, srv, params); a.status != 200 {
		t.Fatalf("first exchange: %d %s", a.status, a.body)
	}
	if a := exchange(t, srv, params); a.status != 400 || a.object(t)["error"] != "invalid_grant" {
		t.Errorf("second exchange: %d %s", a.status, a.body)
	}
	if n := srv.Refreshes(); n != 0 {
		t.Errorf("a code counts as %d refreshes", n)
	}
}

func TestStatelessRefreshTokenStaysValid(t *testing.T) {
	srv := newServer(t)
	srv.SetSingleUse(false)
	g := srv.Install()
	refresh(t, srv, g.RefreshToken)
	_, next := refresh(t, srv, g.RefreshToken)
	refresh(t, srv, next)
	if n := srv.Refreshes(); n != 3 {
		t.Errorf("%d refreshes, want 3", n)
	}
	srv.SetSingleUse(true)
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 400 {
		t.Errorf("single use again, but an exchanged token works: %d", a.status)
	}
}

func TestTokensEndWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		g, code := srv.Install(), srv.Code()
		srv.SetLifetime(1500 * time.Millisecond)
		brief := srv.Install()
		if got := brief.Expiry.Sub(brief.Issued); got != 2*time.Second {
			t.Errorf("a lifetime of 1.5 s became %v, want whole seconds", got)
		}
		stillGood := func(token string, want bool) {
			t.Helper()
			if a := call(t, srv, token); (a.status == 200) != want {
				t.Errorf("after %v: %d %s", time.Since(g.Issued), a.status, a.body)
			}
		}
		advance(2*time.Second - 1)
		stillGood(brief.AccessToken, true)
		advance(1)
		stillGood(brief.AccessToken, false)

		advance(28*time.Second - 1)
		if a := exchange(t, srv, codeParams(srv, code)); a.status != 200 {
			t.Errorf("code just before 30 s: %d %s", a.status, a.body)
		}
		late := srv.Code()
		advance(30 * time.Second)
		if a := exchange(t, srv, codeParams(srv, late)); a.object(t)["error"] != "invalid_grant" {
			t.Errorf("code after 30 s: %d %s", a.status, a.body)
		}

		advance(time.Hour - time.Since(g.Issued) - 1)
		stillGood(g.AccessToken, true)
		advance(1)
		stillGood(g.AccessToken, false)

		advance(30*24*time.Hour - time.Since(g.Issued))
		if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 401 || a.object(t)["error"] != "expired_token" {
			t.Errorf("refresh after 30 days: %d %s", a.status, a.body)
		}
	})
}

func TestAppInfoTellsWhoseATokenIs(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	info := strings.TrimSuffix(srv.TokenURL(), "/oauth/token/") + "/rest/app.info?auth="

	result := get(t, srv, info+g.AccessToken).object(t)["result"].(map[string]any)
	install := result["install"].(map[string]any)
	got := []any{result["client_id"], result["user_id"], install["member_id"], install["client_endpoint"], install["uri"], install["status"], install["version"]}
	want := []any{g.ClientID, float64(g.UserID), g.MemberID, g.ClientEndpoint, strings.TrimSuffix(g.ClientEndpoint, "/rest/"), g.Status, 1.0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("app.info (-want +got):\n%s", diff)
	}
	if at, err := time.Parse(time.RFC3339, result["expires"].(string)); err != nil || at.Sub(g.Expiry).Abs() > time.Second {
		t.Errorf("the token expires at %v, %v; want %v", result["expires"], err, g.Expiry)
	}
	if a := get(t, srv, info+"guess"); a.status != 401 {
		t.Errorf("a made-up token: %d %s", a.status, a.body)
	}
	if n := len(srv.TokenRequests()); n != 0 {
		t.Errorf("app.info counts as %d token requests", n)
	}
}
