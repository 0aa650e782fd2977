package b24test_test

import (
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
)

func TestTokensAreTheirOwnersAlone(t *testing.T) {
	srv := newServer(t)
	info := strings.TrimSuffix(srv.TokenURL(), "/oauth/token/") + "/rest/app.info?auth="
	admin, employee := srv.Install(), srv.Employee()
	application, portal := srv.AnotherApplications(), srv.AnotherPortals()
	for name, c := range map[string]struct {
		token              string
		client, member, at string
		status             int // at the portal
		admin              bool
	}{
		"administrator":       {admin.AccessToken, srv.ClientID(), admin.MemberID, srv.Endpoint(), 200, true},
		"employee":            {employee.AccessToken, srv.ClientID(), admin.MemberID, srv.Endpoint(), 200, false},
		"another application": {application.AccessToken, application.ClientID, admin.MemberID, srv.Endpoint(), 200, true},
		"another portal":      {portal.AccessToken, srv.ClientID(), portal.MemberID, portal.ClientEndpoint, 401, false},
	} {
		result := get(t, srv, info+c.token).object(t)["result"].(map[string]any)
		install := result["install"].(map[string]any)
		if result["client_id"] != c.client || install["member_id"] != c.member || install["client_endpoint"] != c.at {
			t.Errorf("%s: app.info tells %v", name, result)
		}
		a := get(t, srv, srv.Endpoint()+"profile?auth="+c.token)
		if a.status != c.status {
			t.Errorf("%s: profile %d %s", name, a.status, a.body)
		}
		if a.status == 200 && a.object(t)["result"].(map[string]any)["ADMIN"] != c.admin {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	if a := exchange(t, srv, refreshParams(srv, application.RefreshToken)); a.object(t)["error"] != "invalid_grant" {
		t.Errorf("another application's refresh token: %s", a.body)
	}
	if a := exchange(t, srv, refreshParams(srv, portal.RefreshToken)); a.object(t)["member_id"] != portal.MemberID || a.object(t)["client_endpoint"] != portal.ClientEndpoint {
		t.Errorf("another portal's refresh token: %s", a.body)
	}
}

func TestUninstallEndsWhatWasInstalled(t *testing.T) {
	srv := newServer(t)
	info := strings.TrimSuffix(srv.TokenURL(), "/oauth/token/") + "/rest/app.info?auth="
	g := srv.Install()
	srv.Uninstall()
	if a := get(t, srv, info+g.AccessToken); a.status != 401 || a.object(t)["error"] != "NOT_INSTALLED" {
		t.Errorf("app.info: %d %s", a.status, a.body)
	}
	if a := exchange(t, srv, refreshParams(srv, g.RefreshToken)); a.object(t)["error"] != "invalid_grant" {
		t.Errorf("refresh: %s", a.body)
	}
	if a := get(t, srv, srv.Endpoint()+"profile?auth="+g.AccessToken); a.status != 401 {
		t.Errorf("profile: %d %s", a.status, a.body)
	}
	if a := get(t, srv, srv.Endpoint()+"profile?auth="+srv.Install().AccessToken); a.status != 200 {
		t.Errorf("installed anew: %d %s", a.status, a.body)
	}
}

func TestOnAnswersAMethodUntilItIsCalledAgain(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	srv.On("crm.deal.list", b24test.Answer{Status: 200, Body: `{"result":[{"ID":"1"}],"total":1}`})
	for range 2 {
		if a := get(t, srv, srv.Endpoint()+"crm.deal.list?auth="+g.AccessToken); a.status != 200 || !strings.Contains(a.body, `"total":1`) {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a := get(t, srv, srv.Endpoint()+"crm.deal.list?auth=guess"); a.status != 401 {
		t.Errorf("with a made-up token: %d", a.status)
	}
	if a := get(t, srv, srv.Endpoint()+"crm.lead.list?auth="+g.AccessToken); !strings.Contains(a.body, "crm.lead.list") {
		t.Errorf("another method: %s", a.body)
	}
}
