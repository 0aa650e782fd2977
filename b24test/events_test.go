package b24test_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/b24test"
)

func TestExpiredAccessTokensAreRefusedAndNewOnesWork(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		g := srv.Install()
		if a := call(t, srv, g.AccessToken); a.status != 200 {
			t.Fatalf("fresh token: %d %s", a.status, a.body)
		}
		srv.ExpireAccessTokens()
		if a := call(t, srv, g.AccessToken); a.status != 401 {
			t.Fatalf("expired token: %d %s", a.status, a.body)
		}
		access, _ := refresh(t, srv, g.RefreshToken)
		if a := call(t, srv, access); a.status != 200 {
			t.Fatalf("renewed token: %d %s", a.status, a.body)
		}
		if srv.Refreshes() != 1 || srv.Refusals() != 1 || len(srv.Requests()) != 3 || len(srv.TokenRequests()) != 1 {
			t.Errorf("%d refreshes, %d refusals, %d calls, %d token requests; want 1, 1, 3, 1",
				srv.Refreshes(), srv.Refusals(), len(srv.Requests()), len(srv.TokenRequests()))
		}
	})
}

func TestDeadRefreshTokensLeaveAccessTokensAlone(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	srv.KillGrants()
	srv.ExpireRefreshTokens()
	if a := call(t, srv, g.AccessToken); a.status != 200 {
		t.Errorf("access token: %d %s", a.status, a.body)
	}
	refresh(t, srv, srv.Install().RefreshToken) // a grant made since then lives
}

func TestFailedTokenRequestsRotateNothing(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	srv.FailTokens(2, b24test.Answer{
		Status: 503,
		Header: http.Header{"retry-after": {"7"}},
		Body:   `{"error":"PAYMENT_REQUIRED"}`,
	})
	for range 2 {
		a := exchange(t, srv, refreshParams(srv, g.RefreshToken))
		got := []string{strconv.Itoa(a.status), a.header.Get("Retry-After"), a.header.Get("Content-Type"), a.body}
		want := []string{"503", "7", "application/json; charset=utf-8", `{"error":"PAYMENT_REQUIRED"}`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
		if r := last(t, srv.TokenRequests()); r.Status != 503 || r.Code != "PAYMENT_REQUIRED" {
			t.Errorf("log says %d %q", r.Status, r.Code)
		}
	}
	refresh(t, srv, g.RefreshToken)

	srv.FailTokens(1000, b24test.Answer{Status: 200, Header: http.Header{"content-type": {"text/x-test"}}, Body: "{"})
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 200 || a.header.Get("Content-Type") != "text/x-test" {
		t.Errorf("with a type of its own: %d %v", a.status, a.header)
	}
	srv.FailTokens(1, b24test.Answer{})
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 500 || a.body != "" {
		t.Errorf("the zero Answer: %d %q", a.status, a.body)
	}
	srv.FailTokens(1, b24test.Answer{Status: 503})
	srv.FailTokens(0, b24test.Answer{})
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 400 {
		t.Errorf("n = 0 does not end it: %d", a.status)
	}
}

func TestCutAnswersHaveRotated(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		g := srv.Install()
		srv.CutTokens(1)
		req := request(t, "POST", srv.TokenURL(), formType, refreshParams(srv, g.RefreshToken).Encode())
		if resp, err := srv.Client().Do(req); err == nil {
			t.Errorf("an answer arrived: %s", resp.Status)
			resp.Body.Close()
		}
		if r := last(t, srv.TokenRequests()); r.Status != 0 || srv.Refreshes() != 1 {
			t.Errorf("status %d, %d refreshes; want none and 1", r.Status, srv.Refreshes())
		}
		if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 400 {
			t.Errorf("the refresh token still works: %d %s", a.status, a.body)
		}
	})
}

func TestDelayedAnswersComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		srv.DelayTokens(1, 40*time.Second)
		start := time.Now()
		_, next := refresh(t, srv, srv.Install().RefreshToken)
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("the answer took %v, want 40s", d)
		}
		refresh(t, srv, next)
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("one answer was to be delayed, the second took %v more", d-40*time.Second)
		}
	})
}

func TestDelayEndsWhenTheClientGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		srv.DelayTokens(1, 1000*time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req := request(t, "POST", srv.TokenURL(), formType, refreshParams(srv, srv.Install().RefreshToken).Encode())
		_, err := srv.Client().Do(req.WithContext(ctx))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		advance(1001 * time.Hour)
		if r := last(t, srv.TokenRequests()); r.Status != 0 || srv.Refreshes() != 1 {
			t.Errorf("status %d, %d refreshes; want no answer, 1 refresh", r.Status, srv.Refreshes())
		}
	})
}

func TestHeldTokenRequestsWaitForTheirRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		g := srv.Install()
		release := srv.HoldTokens()
		again := srv.HoldTokens()
		answered := make(chan answer, 1)
		go func() { answered <- exchange(t, srv, refreshParams(srv, g.RefreshToken)) }()
		advance(1000 * time.Hour)
		synctest.Wait()
		if r := last(t, srv.TokenRequests()); r.Status != 0 || srv.Refreshes() != 0 {
			t.Errorf("status %d and %d refreshes while held", r.Status, srv.Refreshes())
		}
		srv.FailTokens(1, b24test.Answer{Status: 503})
		release()
		release()
		if a := <-answered; a.status != 503 {
			t.Errorf("answer %d, want what was set while the request was held", a.status)
		}
		again()
		if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.status != 401 {
			t.Errorf("after the release: %d %s, want the refresh token expired by now", a.status, a.body)
		}

		old := srv.HoldTokens()
		release() // of an earlier hold
		old()
		release = srv.HoldTokens()
		old()
		go func() { answered <- exchange(t, srv, refreshParams(srv, g.RefreshToken)) }()
		synctest.Wait()
		if len(answered) != 0 {
			t.Error("the release of an earlier hold ends a later one")
		}
		release()
		<-answered
	})
}

func TestHeldRequestWhoseClientGoesRotatesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		g := srv.Install()
		release := srv.HoldTokens()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			req := request(t, "GET", srv.TokenURL()+"?"+refreshParams(srv, g.RefreshToken).Encode(), "", "")
			srv.Client().Do(req.WithContext(ctx))
		}()
		for len(srv.TokenRequests()) == 0 {
			<-time.After(time.Millisecond)
		}
		cancel()
		<-gone
		srv.Close() // ends the request if the server has not noticed yet
		release()
		if n := srv.Refreshes(); n != 0 {
			t.Errorf("%d refreshes", n)
		}
	})
}

func TestRateLimitRefusesBeforeTheToken(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	const v2 = `{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}`
	const v3 = `{"error":{"code":"QUERY_LIMIT_EXCEEDED","message":"Too many requests"}}`
	const xml = `<response><error>QUERY_LIMIT_EXCEEDED</error><error_description>Too many requests</error_description></response>`
	srv.RateLimit(4)
	for _, tt := range []struct{ path, want string }{
		{"m?auth=" + token, v2}, {"m", v2}, {"m.xml", xml}, {"api/m", v3},
	} {
		if a := get(t, srv, srv.Endpoint()+tt.path); a.status != 503 || a.body != tt.want || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %d %s", tt.path, a.status, a.body)
		}
	}
	if a := call(t, srv, token); a.status != 200 {
		t.Errorf("after the limit: %d %s", a.status, a.body)
	}
	if n := srv.Refusals(); n != 0 {
		t.Errorf("%d refusals of a token", n)
	}
}

func TestRefusedCallsGetTheAnswer(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	srv.RefuseNext(2, b24test.Answer{Status: 403, Body: v3Denied})
	for _, auth := range []string{token, "guess"} {
		a := call(t, srv, auth)
		r := last(t, srv.Requests())
		if a.status != 403 || a.body != v3Denied || r.Status != 403 || r.Code != "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION" {
			t.Errorf("answer %d %s, log %d %q", a.status, a.body, r.Status, r.Code)
		}
	}
	if a := call(t, srv, token); a.status != 200 {
		t.Errorf("the third call: %d %s", a.status, a.body)
	}
}

func TestRenameMovesThePortal(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		g := srv.Install()
		old := srv.Rename()
		if old+"/rest/" != g.ClientEndpoint || srv.Endpoint() == g.ClientEndpoint || srv.Endpoint() != srv.URL()+"/rest/" {
			t.Fatalf("old %s, new %s, grant %s", old, srv.URL(), g.ClientEndpoint)
		}
		srv.RefuseNext(1, b24test.Answer{Status: 418})
		const uri = "/rest//m.xml?a=%41&auth=x"
		a := post(t, srv, old+uri, formType, "b=1")
		if a.status != 302 || a.header.Get("Location") != srv.URL()+uri {
			t.Errorf("old address: %d %q, want 302 %q", a.status, a.header.Get("Location"), srv.URL()+uri)
		}
		if r := last(t, srv.Requests()); "http://"+r.Host != old || r.Status != 302 || string(r.Body) != "b=1" {
			t.Errorf("log says %d at %s, body %q", r.Status, r.Host, r.Body)
		}
		if a := call(t, srv, g.AccessToken); a.status != 418 {
			t.Errorf("the old address used up the answer meant for the portal: %d", a.status)
		}
		if a := call(t, srv, g.AccessToken); a.status != 200 {
			t.Errorf("new address: %d %s", a.status, a.body)
		}
		o := exchange(t, srv, refreshParams(srv, g.RefreshToken)).object(t)
		if o["client_endpoint"] != srv.Endpoint() || o["member_id"] != g.MemberID {
			t.Errorf("refresh says %v, want %s", o["client_endpoint"], srv.Endpoint())
		}
		srv.Rename()
		if a := get(t, srv, old+uri); a.header.Get("Location") != srv.URL()+uri {
			t.Errorf("renamed twice, the first address leads to %q", a.header.Get("Location"))
		}
	})
}

func TestResetForgetsWhatArrivedAndNothingElse(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	_, next := refresh(t, srv, g.RefreshToken)
	call(t, srv, "guess")
	srv.RateLimit(1)
	srv.Reset()
	if len(srv.Requests())+len(srv.TokenRequests())+srv.Refreshes()+srv.Refusals() != 0 {
		t.Error("something is left")
	}
	if a := call(t, srv, g.AccessToken); a.status != 503 {
		t.Errorf("the rate limit is gone: %d", a.status)
	}
	refresh(t, srv, next)
}
