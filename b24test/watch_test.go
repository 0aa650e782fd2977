package b24test_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestAWatcherHearsOfEachRequestBeforeItsClient(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		heard := make(chan b24test.Request, 10)
		get(t, srv, srv.Endpoint()+"before")
		srv.Watch(func(r b24test.Request) {
			srv.Requests() // it may ask
			heard <- r
		})
		expect := func(path string, status int, code string) {
			t.Helper()
			select {
			case r := <-heard:
				if r.Path != path || r.Status != status || r.Code != code {
					t.Errorf("heard of %s: %d %q, want %s: %d %q", r.Path, r.Status, r.Code, path, status, code)
				}
			default:
				t.Errorf("not heard of %s", path)
			}
		}
		g := srv.Install()
		call(t, srv, g.AccessToken)
		expect("/rest/crm.deal.list", 200, "")
		call(t, srv, "none")
		expect("/rest/crm.deal.list", 401, "invalid_token")
		refresh(t, srv, g.RefreshToken)
		expect("/oauth/token/", 200, "")

		srv.CutTokens(1)
		// By POST, which no client sends twice.
		if resp, err := srv.Client().PostForm(srv.TokenURL(), refreshParams(srv, srv.Install().RefreshToken)); err == nil {
			resp.Body.Close()
			t.Fatal("an answer that is cut arrives")
		}
		expect("/oauth/token/", 0, "")
		if len(heard) != 0 {
			t.Errorf("heard of %d requests more", len(heard))
		}
	})
}

// standing is what Grants says of each: the user, and whether the tokens are good.
func standing(srv *b24test.Server) []string {
	var list []string
	for _, g := range srv.Grants() {
		list = append(list, fmt.Sprintf("%d access:%t refresh:%t", g.UserID, time.Now().Before(g.Expiry), g.RefreshToken != ""))
	}
	return list
}

func TestGrantsAreAsTheServerSeesThemNow(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		expect := func(when string, want ...string) {
			t.Helper()
			if got := standing(srv); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		expect("at first")
		first, second := srv.Install(), srv.Employee()
		expect("issued", "1 access:true refresh:true", "2 access:true refresh:true")

		access, next := refresh(t, srv, first.RefreshToken)
		if g := srv.Grants()[0]; g.AccessToken != access || g.RefreshToken != next || g.ApplicationToken != first.ApplicationToken {
			t.Errorf("after a refresh the first one is %v", g)
		}
		srv.ExpireAccessTokens()
		refresh(t, srv, second.RefreshToken)
		expect("one is expired", "1 access:false refresh:true", "2 access:true refresh:true")

		third := srv.Reissue(first)
		if third.UserID != 1 || third.AccessToken == access || third.RefreshToken == next {
			t.Errorf("reissued: %v", third)
		}
		srv.KillGrants()
		expect("all are dead", "1 access:false refresh:false", "2 access:true refresh:false", "1 access:true refresh:false")
		srv.Reissue(second)
		srv.ExpireRefreshTokens()
		if g := srv.Grants()[3]; g.UserID != 2 || g.RefreshToken != "" {
			t.Errorf("the fourth one is %v, its refresh token has expired", g)
		}
		srv.Uninstall()
		expect("uninstalled")
	})
}

func TestARefreshTokenThatWorksAgainIsStillThere(t *testing.T) {
	srv := newServer(t)
	srv.SetSingleUse(false)
	g := srv.Install()
	refresh(t, srv, g.RefreshToken)
	refresh(t, srv, g.RefreshToken)
	if got, want := standing(srv), []string{"1 access:true refresh:true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReissueKnowsItsUsers(t *testing.T) {
	srv := newServer(t)
	employee := srv.Reissue(srv.Employee())
	a := get(t, srv, srv.Endpoint()+"profile?auth="+employee.AccessToken)
	if result := a.object(t)["result"].(map[string]any); result["ADMIN"] != false || result["ID"] != "1" {
		t.Errorf("the reissued grant is that of %v", result)
	}
	defer func() {
		if recover() == nil {
			t.Error("a stranger gets a grant")
		}
	}()
	srv.Reissue(&b24oauth.Grant{UserID: 99})
}
