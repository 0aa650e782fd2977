package b24test_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// authorize opens what a user is sent to.
func authorize(t *testing.T, srv *b24test.Server, c *b24oauth.Config) (*http.Response, string) {
	t.Helper()
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Get(c.AuthCodeURL(srv.URL(), "the state"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestTheCodeFlowGoesToTheAddressInTheCard(t *testing.T) {
	for name, srv := range map[string]*b24test.Server{"socket": b24test.NewServer(), "memory": b24test.NewMemoryServer()} {
		t.Run(name, func(t *testing.T) {
			defer srv.Close()
			srv.SetRedirect("http://127.0.0.1:1/callback?mine=1")
			resp, _ := authorize(t, srv, srv.Config())
			to, err := resp.Location()
			if err != nil {
				t.Fatal(err)
			}
			q := to.Query()
			if resp.StatusCode != 302 || to.Path != "/callback" || q.Get("mine") != "1" || q.Get("state") != "the state" || "http://"+q.Get("domain") != srv.URL() {
				t.Errorf("%s: the browser is sent to %s", resp.Status, to)
			}
			g, err := srv.Config().Exchange(t.Context(), q.Get("code"), "")
			if err != nil || g.MemberID != q.Get("member_id") {
				t.Errorf("the code brings %v, %v", g, err)
			}
		})
	}
}

func TestAPortalWithoutACardShowsWhatToCopy(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	resp, body := authorize(t, srv, srv.Config())
	shown := regexp.MustCompile(`https://app\.example/\S+?</pre>`).FindString(body)
	u, err := url.Parse(strings.ReplaceAll(strings.TrimSuffix(shown, "</pre>"), "&amp;", "&"))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	if _, err := srv.Config().Exchange(t.Context(), u.Query().Get("code"), ""); err != nil {
		t.Errorf("%s brings %v", shown, err)
	}
}

func TestThePortalShowsItsErrorsItself(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	srv.SetRedirect("http://127.0.0.1:1/callback")
	c := srv.Config()
	c.ClientID = "local.another"
	if resp, body := authorize(t, srv, c); resp.StatusCode != 400 || !strings.Contains(body, "not found") {
		t.Errorf("%s: %s", resp.Status, body)
	}
}
