package b24oauth

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

func FuzzTokenAnswer(f *testing.F) {
	fixtures, err := filepath.Glob("testdata/token-*.json")
	if err != nil || len(fixtures) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, name := range fixtures {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(200, "", data)
	}
	f.Add(400, "120", []byte(`{"error":"invalid_grant","error_description":"the-refresh-token"}`))
	f.Add(200, "Fri, 31 Dec 1999 23:59:59 GMT", []byte(`{"access_token":"a","expires_in":1e-10}`))
	f.Add(200, "-1", []byte(`{"access_token":"a","expires_in":"NaN","expires":"9223372036854775807"}`))
	f.Add(200, "", []byte(`{"access_token":"a","client_endpoint":"https://[::1]:443/rest","server_endpoint":"https://oauth.bitrix.info."}`))
	f.Add(302, "", []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		asked := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(strings.NewReader(string(body)))}
		tokens, failure := tokenresponse.Read(resp, asked)
		if (tokens == nil) == (failure == nil) {
			t.Fatalf("tokens %v, failure %v", tokens, failure)
		}
		if failure != nil {
			checkFailure(t, endpointError(failure, ""))
			return
		}
		g := newGrant(tokens, asked)
		if life := g.Expiry.Sub(asked); life <= 0 || life > lifetime.Max {
			t.Errorf("lifetime %v", life)
		}
		if g.AccessToken == "" {
			t.Error("no access token")
		}
		c := &Config{ClientID: "app.1"}
		old := &Grant{
			ClientID: "app.1", MemberID: "member", ClientEndpoint: "https://portal.bitrix24.com/rest/", ServerEndpoint: TokenURLGlobal,
			AccessToken: "a", RefreshToken: "r", ApplicationToken: "t", Scope: "crm", Status: "F", UserID: 1,
		}
		m := old.merge(g, c.ClientID, c.trustedEndpoint(g.ServerEndpoint))
		if m.RefreshToken == "" || m.MemberID == "" || m.Scope == "" || m.Status == "" || m.UserID == 0 || m.ApplicationToken != "t" || m.ClientID != "app.1" {
			t.Errorf("the answer erased something: %#v", m)
		}
		if u, err := address.ParseEndpoint(m.ClientEndpoint); err != nil || u.String() != m.ClientEndpoint {
			t.Errorf("portal %q: %v", m.ClientEndpoint, err)
		}
		if u, err := c.tokenURL(m.ServerEndpoint); err != nil || u.String() != TokenURLGlobal && u.String() != TokenURLCIS {
			t.Errorf("server %q: %v", m.ServerEndpoint, err)
		}
		data, err := m.MarshalBinary()
		if err == nil {
			err = new(Grant).UnmarshalBinary(data)
		}
		if err != nil {
			t.Errorf("the grant cannot be stored: %v", err)
		}
	})
}

func checkFailure(t *testing.T, e *TokenError) {
	t.Helper()
	e.redact("the-refresh-token")
	if e.retryAfter < 0 || e.retryAfter > tokenresponse.MaxRetryAfter {
		t.Errorf("pause of %v", e.retryAfter)
	}
	for _, r := range e.Code {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"'<>&=", r) {
			t.Errorf("code %q", e.Code)
		}
	}
	text := e.Error()
	if len(text) > 4000 || strings.ContainsAny(text, "\x00\r\n\x1b") || strings.Contains(text, "the-refresh-token") || strings.Contains(text, "%!") && !strings.Contains(e.Description, "%!") {
		t.Errorf("text %q", text)
	}
	if e.kind == nil || e.Permanent() && e.Code == "" {
		t.Errorf("permanent without a code: %v", e)
	}
}

// In a synctest bubble there is no monotonic clock, so this runs outside.
func TestExpiryIsByTheWallClock(t *testing.T) {
	g := newGrant(&tokenresponse.Tokens{AccessToken: "a"}, time.Now())
	for _, at := range []time.Time{g.Issued, g.Expiry} {
		if at != at.Round(0) {
			t.Errorf("%v is by the monotonic clock too, which stops while a machine sleeps", at)
		}
	}
}
