package b24test_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
)

const anyPort = "127.0.0.1:0"

func listen(t *testing.T, portal, authorization string) *b24test.Server {
	t.Helper()
	srv, err := b24test.Listen(portal, authorization)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// host is the host and port of an address of the server.
func host(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestAServerThatIsStartedAgainNeedsNoOtherConfiguration(t *testing.T) {
	first := listen(t, anyPort, anyPort)
	portal, authorization := host(t, first.URL()), host(t, first.TokenURL())
	first.Close()

	second := listen(t, portal, authorization)
	if first.ClientID() != second.ClientID() {
		t.Error("a free port that was given is no address like others")
	}
	g := second.Install()
	second.Close()
	third := listen(t, portal, authorization)
	again := third.Install()

	if third.URL() != "http://"+portal || third.TokenURL() != "http://"+authorization+"/oauth/token/" {
		t.Errorf("the portal is at %s, the authorization server at %s", third.URL(), third.TokenURL())
	}
	if second.ClientID() != third.ClientID() || second.ClientSecret() != third.ClientSecret() {
		t.Error("it has other credentials")
	}
	if g.MemberID != again.MemberID || g.ApplicationToken != again.ApplicationToken || g.ClientEndpoint != again.ClientEndpoint {
		t.Errorf("it is another portal: %v, %v", g, again)
	}
	if g.MemberID == g.ApplicationToken {
		t.Error("member_id and application_token are the same")
	}
	if g.AccessToken == again.AccessToken || g.RefreshToken == again.RefreshToken {
		t.Error("its tokens are the same")
	}
	if other := listen(t, anyPort, anyPort); other.ClientID() == third.ClientID() {
		t.Error("a server at another address is the same")
	}
}

func TestAnAddressThatIsOfNoUseIsAnErrorThatSaysWhatToDo(t *testing.T) {
	taken := host(t, newServer(t).URL())
	for _, test := range []struct{ portal, authorization, want string }{
		{taken, anyPort, "choose another address"},
		{anyPort, taken, "choose another address"},
		{"0.0.0.0:0", anyPort, "stands for all"},
		{"[::]:0", anyPort, "stands for all"},
		{":0", anyPort, "stands for all"},
		{"8024", anyPort, "host:port"},
	} {
		srv, err := b24test.Listen(test.portal, test.authorization)
		if err == nil {
			srv.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Listen(%q, %q): %v", test.portal, test.authorization, err)
		}
	}
}

func TestTheAddressOfAFailedListenIsFreeAgain(t *testing.T) {
	probe := listen(t, anyPort, anyPort)
	portal := host(t, probe.URL())
	probe.Close()
	if _, err := b24test.Listen(portal, portal); err == nil {
		t.Fatal("two servers listen at one address")
	}
	l, err := net.Listen("tcp", portal)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestAServerThatRunsForLongKeepsItsLastRequestsOnly(t *testing.T) {
	srv := listen(t, anyPort, anyPort)
	for range 105 {
		get(t, srv, srv.Endpoint()+"old")
	}
	get(t, srv, srv.Endpoint()+"new")
	get(t, srv, srv.TokenURL())
	if got := srv.Requests(); len(got) != 100 || last(t, got).Path != "/rest/new" {
		t.Errorf("%d requests are kept, the last one %s", len(got), last(t, got).Path)
	}
	if len(srv.TokenRequests()) != 1 {
		t.Error("token requests are not kept beside the others")
	}
	if srv.Refusals() != 106 {
		t.Errorf("%d refusals are counted, want all 106", srv.Refusals())
	}
}

func TestAHandlersPagesAreAtEveryAddressOfThePortalAndInNoLog(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		srv.Handle("GET /page/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		old := srv.URL()
		srv.Rename()
		for _, address := range []string{old, srv.URL()} {
			if a := get(t, srv, address+"/page/of/mine"); a.status != http.StatusTeapot {
				t.Errorf("%s answers %d", address, a.status)
			}
		}
		if a := get(t, srv, srv.URL()+"/other"); a.status != http.StatusNotFound {
			t.Errorf("another path is answered %d", a.status)
		}
		if got := srv.Requests(); len(got) != 1 || got[0].Path != "/other" {
			t.Errorf("the log has %v", got)
		}
	})
}
