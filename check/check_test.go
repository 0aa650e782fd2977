package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/check"
	"github.com/b24go/b24oauth/internal/canary"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// steps are the steps of a report, those that failed with an exclamation mark.
func steps(r *check.Report) string {
	var names []string
	for _, s := range r.Steps {
		if s.OK {
			names = append(names, s.Name)
		} else {
			names = append(names, s.Name+"!")
		}
	}
	return strings.Join(names, " ")
}

func TestACheckSaysWhoHasToAct(t *testing.T) {
	payment := b24test.Answer{Status: 401, Body: `{"error":"PAYMENT_REQUIRED"}`}
	for name, c := range map[string]struct {
		expire bool
		before func(srv *b24test.Server, config *b24oauth.Config, base *http.RoundTripper)
		steps  string
		who    check.Who
		says   string
		status int
	}{
		"works":          {steps: "grant clock call", status: 200},
		"works, renewed": {expire: true, steps: "grant renewal stored clock call", status: 200},
		"dead":           {expire: true, before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) { srv.KillGrants() }, steps: "grant renewal!", who: check.User, says: "invalid_grant", status: 409},
		"a wrong client": {expire: true, before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) {
			srv.FailTokens(1, b24test.Answer{Status: 200, Body: `{"error":"wrong_client"}`})
		}, steps: "grant renewal!", who: check.Operator, says: "ClientID", status: 409},
		"unpaid":               {expire: true, before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) { srv.FailTokens(1, payment) }, steps: "grant renewal!", who: check.Owner, says: "PAYMENT_REQUIRED", status: 409},
		"unpaid at the portal": {before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) { srv.RefuseNext(1, payment) }, steps: "grant clock call!", who: check.Owner, says: "PAYMENT_REQUIRED", status: 409},
		"a server that is down": {expire: true, before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) {
			srv.FailTokens(9, b24test.Answer{Status: 503})
		}, steps: "grant renewal!", who: check.Nobody, says: "temporarily", status: 502},
		"a portal that is busy": {before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) { srv.RateLimit(1) }, steps: "grant clock call!", who: check.Nobody, says: "503", status: 502},
		"unreachable": {before: func(_ *b24test.Server, _ *b24oauth.Config, base *http.RoundTripper) {
			*base = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
		}, steps: "grant call!", who: check.Nobody, says: "connection refused", status: 502},
		"a clock that is wrong": {before: func(_ *b24test.Server, _ *b24oauth.Config, base *http.RoundTripper) {
			over := *base
			*base = roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := over.RoundTrip(r)
				if err == nil {
					resp.Header.Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
				}
				return resp, err
			})
		}, steps: "grant clock! call", says: "NTP", status: 200},
		"renamed": {before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) { srv.Rename() }, steps: "grant clock call renamed", says: "renamed from", status: 200},
		"no grant": {before: func(_ *b24test.Server, config *b24oauth.Config, _ *http.RoundTripper) {
			if err := config.Delete(context.Background(), "portal"); err != nil {
				panic(err)
			}
		}, steps: "grant!", who: check.User, says: "no grant", status: 409},
		"an application without a secret": {before: func(_ *b24test.Server, config *b24oauth.Config, _ *http.RoundTripper) { config.ClientSecret = "" }, steps: "grant!", who: check.Operator, says: "ClientSecret", status: 409},
		"not understood": {before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) {
			srv.On("profile", b24test.Answer{Status: 200, Body: "<html>"})
		}, steps: "grant clock call!", who: check.Operator, says: "not understood", status: 409},
		"refused": {before: func(srv *b24test.Server, _ *b24oauth.Config, _ *http.RoundTripper) {
			srv.On("profile", b24test.Answer{Status: 403, Body: `{"error":"insufficient_scope"}`})
		}, steps: "grant clock call!", who: check.User, says: "insufficient_scope", status: 409},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := b24test.NewMemoryServer()
				defer srv.Close()
				config := srv.Config()
				config.Store = new(b24oauth.MemoryStore)
				g := srv.Install()
				if err := config.Save(t.Context(), "portal", g); err != nil {
					t.Fatal(err)
				}
				secret, base := config.ClientSecret, srv.Client().Transport
				if c.before != nil {
					c.before(srv, config, &base)
				}
				o := check.Options{Expire: c.expire, Base: base}
				w := httptest.NewRecorder()
				check.Handler(config, o, func(*http.Request) string { return "portal" }).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				var r check.Report
				if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
					t.Fatal(err)
				}
				text := r.String()
				if w.Code != c.status || r.OK != (c.status == 200) || r.Who != c.who || steps(&r) != c.steps || !strings.Contains(text, c.says) || (r.Advice == "") != r.OK {
					t.Errorf("status %d, steps %q:\n%s\nwant %d, %q, %s: %s", w.Code, steps(&r), text, c.status, c.steps, c.who, c.says)
				}
				secrets := []string{secret, g.AccessToken, g.RefreshToken}
				if now, err := config.Store.Load(t.Context(), "portal"); err == nil && now.AccessToken != "" {
					secrets = append(secrets, now.AccessToken, now.RefreshToken)
				}
				if found := canary.Of(secrets...).In(w.Body.String() + fmt.Sprintf("%+v %s", r, &r)); len(found) > 0 {
					t.Errorf("the report tells %v", found)
				}
			})
		})
	}
}

func TestACheckOfAVerdictAsksNobody(t *testing.T) {
	srv := b24test.NewMemoryServer()
	defer srv.Close()
	config := srv.Config()
	config.Store = new(b24oauth.MemoryStore)
	if err := config.Save(t.Context(), "portal", srv.Install()); err != nil {
		t.Fatal(err)
	}
	srv.KillGrants()
	config.TokenSource("portal").Renew(t.Context(), nil)
	before := len(srv.TokenRequests())
	r, err := check.Run(t.Context(), config, "portal", check.Options{Base: srv.Client().Transport})
	if err != nil || r.OK || r.Who != check.User || !strings.Contains(r.String(), "refused the refresh token with invalid_grant") || len(srv.TokenRequests()) != before {
		t.Errorf("%v, %v", r, err)
	}
}

func TestHandlerRefusesOtherRequests(t *testing.T) {
	h := check.Handler(new(b24oauth.Config), check.Options{}, func(r *http.Request) string { return r.FormValue("portal_id") })
	for _, c := range []struct {
		r    *http.Request
		want int
	}{
		{httptest.NewRequest("GET", "/", nil), 400},
		{httptest.NewRequest("POST", "/?portal_id=x", nil), 405},
		{httptest.NewRequest("GET", "/?portal_id=x", nil), 409}, // a Config without its credentials
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, c.r)
		if w.Code != c.want || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %v", c.r.Method, c.r.URL, w.Code, w.Header())
		}
	}
	if _, err := check.Run(t.Context(), nil, "x", check.Options{}); err == nil {
		t.Error("without a Config: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := check.Run(ctx, new(b24oauth.Config), "x", check.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
