package b24oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

func TestConfirmAsksWhoseATokenIs(t *testing.T) {
	p := newProgramWithoutGrant(t)
	g := p.Install()
	info, err := p.config.Confirm(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	want := b24oauth.AppInfo{
		ClientID: g.ClientID, MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, UserID: g.UserID,
		Scope: g.Scope, Status: g.Status, Version: 1, Installed: true, Expires: g.Expiry.UTC().Truncate(time.Second),
	}
	if diff := cmp.Diff(want, *info); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, r := range p.Requests() {
		if r.Method != http.MethodPost || r.AuthIn != "body" {
			t.Errorf("%s with the token in the %s: a URL gets into logs", r.Method, r.AuthIn)
		}
	}
	if n := len(p.TokenRequests()); n != 0 {
		t.Errorf("%d token requests", n)
	}
	// What a frame brings: no user, no client id.
	if _, err := p.config.Confirm(t.Context(), &b24oauth.Grant{AccessToken: g.AccessToken, MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint}); err != nil {
		t.Errorf("a grant that says less: %v", err)
	}
}

// appInfo is a client of an authorization server whose app.info answers this.
func appInfo(status int, body string) *http.Client {
	return &http.Client{Transport: roundTripFunc(func(*http.Request) (*http.Response, error) { return answer(status, body), nil })}
}

func TestConfirmContradictsWhatIsNotSo(t *testing.T) {
	const is = `{"result":{"client_id":"app.1","user_id":"7","install":{"member_id":"a223","client_endpoint":"https://example.bitrix24.com/rest/"}}}`
	for _, c := range []struct {
		name   string
		is     string
		change func(*b24oauth.Grant)
		says   string // "" if it is confirmed
	}{
		{name: "as it is", is: is},
		{name: "the host in another form", is: is, change: func(g *b24oauth.Grant) { g.ClientEndpoint = "https://EXAMPLE.bitrix24.com:443/rest/" }},
		{name: "no user on one side", is: is, change: func(g *b24oauth.Grant) { g.UserID = 0 }},
		{name: "no user on the other", is: strings.Replace(is, `"user_id":"7",`, "", 1)},
		{name: "another application", is: strings.Replace(is, "app.1", "app.2", 1), says: `client_id is "app.2" and not "app.1"`},
		{name: "another portal", is: is, change: func(g *b24oauth.Grant) { g.MemberID = "b334" }, says: `member_id is "a223" and not "b334"`},
		{name: "another address", is: is, change: func(g *b24oauth.Grant) { g.ClientEndpoint = "https://evil.bitrix24.com/rest/" }, says: `portal is "example.bitrix24.com" and not "evil.bitrix24.com"`},
		{name: "another port", is: is, change: func(g *b24oauth.Grant) { g.ClientEndpoint = "https://example.bitrix24.com:8443/rest/" }, says: "its portal is"},
		{name: "another user", is: is, change: func(g *b24oauth.Grant) { g.UserID = 8 }, says: "user_id is 7 and not 8"},
		{name: "an address that is none", is: strings.Replace(is, "https://example", "gopher://example", 1), says: "its portal is"},
		{name: "all of it", is: strings.Replace(is, "app.1", "app.2", 1), change: func(g *b24oauth.Grant) { g.MemberID, g.UserID = "b334", 8 }, says: `, its user_id is 7 and not 8`},
		{name: "the token as what differs", is: strings.Replace(is, "a223", "the-access-token", 1), says: "member_id is"},
	} {
		config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "the-client-secret", TokenClient: appInfo(200, c.is)}
		g := &b24oauth.Grant{AccessToken: "the-access-token", RefreshToken: "the-refresh-token", MemberID: "a223", ClientEndpoint: "https://example.bitrix24.com/rest/", UserID: 7}
		if c.change != nil {
			c.change(g)
		}
		_, err := config.Confirm(t.Context(), g)
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if e, ok := errors.AsType[*b24oauth.TokenError](err); !ok || !errors.Is(err, b24oauth.ErrContradicted) || !e.Permanent() || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want it contradicted: %s", c.name, err, c.says)
		}
		canary.Of("the-access-token", "the-refresh-token", "the-client-secret").Check(t, c.name, canary.Value("the error", err))
	}
}

func TestConfirmTellsRefusalsFromNoVerdict(t *testing.T) {
	const refused = `{"error":"expired_token","error_description":"The access token provided has expired."}`
	for _, c := range []struct {
		name   string
		client *http.Client
		kind   error
		code   string
		says   string
	}{
		{"expired", appInfo(401, refused), b24oauth.ErrReauthorize, "expired_token", "the access token has expired"},
		{"unknown", appInfo(401, `{"error":"invalid_token"}`), b24oauth.ErrReauthorize, "invalid_token", "unknown"},
		{"removed", appInfo(401, `{"error":"NOT_INSTALLED"}`), b24oauth.ErrReauthorize, "NOT_INSTALLED", "not installed"},
		{"unpaid", appInfo(401, `{"error":"PAYMENT_REQUIRED"}`), b24oauth.ErrPaymentRequired, "PAYMENT_REQUIRED", "payment"},
		{"a code that is new", appInfo(401, `{"error":"SOMETHING_NEW"}`), b24oauth.ErrUnavailable, "SOMETHING_NEW", ""},
		{"too many questions", appInfo(503, `{"error":"QUERY_LIMIT_EXCEEDED"}`), b24oauth.ErrUnavailable, "QUERY_LIMIT_EXCEEDED", "temporarily unavailable"},
		{"a refusal while it is down", appInfo(503, refused), b24oauth.ErrUnavailable, "expired_token", "temporarily unavailable"},
		{"down", appInfo(502, "<html>"), b24oauth.ErrUnavailable, "", "no word on the access token"},
		{"not understood", appInfo(200, `{"result":[]}`), b24oauth.ErrUnavailable, "", "does not name the application"},
		{"a redirect", appInfo(302, ""), b24oauth.ErrUnavailable, "", "redirect"},
		{"unreachable", &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			return nil, errors.New("refused: " + string(body))
		})}, b24oauth.ErrUnavailable, "", "no answer from"},
	} {
		config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "the-client-secret", TokenClient: c.client}
		_, err := config.Confirm(t.Context(), &b24oauth.Grant{AccessToken: "the-access-token"})
		e, ok := errors.AsType[*b24oauth.TokenError](err)
		if !ok || !errors.Is(err, c.kind) || e.Code != c.code || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "refresh token") {
			t.Errorf("%s: %v; want %v, code %q", c.name, err, c.kind, c.code)
		}
		canary.Of("the-access-token", "the-client-secret").Check(t, c.name, canary.Value("the error", err))
	}
}

// Who is to be confirmed must not be asked about himself.
func TestConfirmAsksOnlyAServerThatIsTrusted(t *testing.T) {
	var asked []string
	client := &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String())
		return answer(500, ""), nil
	})}
	for _, c := range []struct {
		tokenURL, server, endpoint string
		want                       string
	}{
		{want: "https://oauth.bitrix.info/rest/app.info"},
		{server: "https://oauth.bitrix24.tech/rest/", want: "https://oauth.bitrix24.tech/rest/app.info"},
		{server: "https://evil.example/rest/"},
		{server: "http://oauth.bitrix.info/rest/"},
		{tokenURL: "https://sso.example.com/oauth/token/", server: "https://evil.example/rest/", want: "https://sso.example.com/rest/app.info"},
		{tokenURL: b24oauth.PortalTokenURL("example.bitrix24.com"), endpoint: "https://example.bitrix24.com/rest/"},
		{endpoint: "http://example.bitrix24.com/rest/"},
	} {
		asked = nil
		config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", TokenURL: c.tokenURL, TokenClient: client}
		_, err := config.Confirm(t.Context(), &b24oauth.Grant{AccessToken: "token", ServerEndpoint: c.server, ClientEndpoint: c.endpoint})
		var want []string
		kind := b24oauth.ErrMisconfigured
		if c.want != "" {
			want, kind = []string{c.want}, b24oauth.ErrUnavailable
		}
		if diff := cmp.Diff(want, asked); diff != "" || !errors.Is(err, kind) {
			t.Errorf("%+v: %v; asked (-want +got):\n%s", c, err, diff)
		}
	}
	for _, g := range []*b24oauth.Grant{nil, {RefreshToken: "r"}} {
		if _, err := (&b24oauth.Config{ClientID: "app.1", ClientSecret: "secret"}).Confirm(t.Context(), g); !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("without a token: %v", err)
		}
	}
}

func TestConfirmEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", TokenClient: &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}
		begun := time.Now()
		if _, err := config.Confirm(t.Context(), &b24oauth.Grant{AccessToken: "token"}); !errors.Is(err, b24oauth.ErrUnavailable) || time.Since(begun) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("token"))
		defer cancel()
		if _, err := config.Confirm(ctx, &b24oauth.Grant{AccessToken: "token"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, b24oauth.ErrUnavailable) {
			t.Errorf("the caller's own end: %v", err)
		}
	})
}
