package b24oauth_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

func TestExchangedGrantStaysWithTheServerThatIssuedIt(t *testing.T) {
	const portal = `"client_endpoint":"https://portal.bitrix24.com/rest/"`
	tests := []struct{ name, members, serverDomain, tokenURL, want string }{
		{"the answer's own", `"server_endpoint":"https://oauth.bitrix24.tech/rest/"`, "", "", "https://oauth.bitrix24.tech/rest/"},
		{"none in the answer", `"status":"F"`, "oauth.bitrix24.tech", "", "https://oauth.bitrix24.tech/rest/"},
		{"an unknown one in the answer", `"server_endpoint":"https://evil.example/rest/"`, "", "", "https://oauth.bitrix.info/rest/"},
		{"a configured one", `"status":"F"`, "", "https://own.example/oauth/token/", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(answers(200, `{"access_token":"a","refresh_token":"r",`+portal+`,`+test.members+`}`))
			c.TokenURL = test.tokenURL
			g, err := c.Exchange(t.Context(), "the-code", test.serverDomain)
			if err != nil {
				t.Fatal(err)
			}
			if g.ServerEndpoint != test.want {
				t.Errorf("server_endpoint %q, want %q", g.ServerEndpoint, test.want)
			}
			if err := c.Save(t.Context(), key, g); err != nil {
				t.Errorf("what Exchange returns is not accepted by Save: %v", err)
			}
		})
	}
}

func TestExchangeRefusesWhatItCannotDo(t *testing.T) {
	good := fixture(t, "token-exchange.json")
	tests := []struct {
		name, code, body string
		change           func(*b24oauth.Config)
		want             error
		text             string
	}{
		{"no code", "", good, nil, b24oauth.ErrClientRejected, "code parameter"},
		{"no client id", "c", good, func(c *b24oauth.Config) { c.ClientID = "" }, b24oauth.ErrClientRejected, "Config.ClientID"},
		{"a code that is used up", "c", `{"error":"invalid_grant"}`, nil, b24oauth.ErrReauthorize, "authorize the application"},
		{"no portal in the answer", "c", `{"access_token":"a","refresh_token":"r"}`, nil, b24oauth.ErrUnavailable, "no portal"},
		{"a portal without https in the answer", "c", `{"access_token":"a","refresh_token":"r","client_endpoint":"http://portal.example/rest/"}`, nil, b24oauth.ErrUnavailable, "not https"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(answers(200, test.body))
			if test.change != nil {
				test.change(c)
			}
			g, err := c.Exchange(t.Context(), test.code, "")
			if g != nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("grant %v, error %v; want one that is %q and says %q", g, err, test.want, test.text)
			}
		})
	}
}

func TestExchangeEndsWithTheCallersContextOrItsOwn(t *testing.T) {
	hangs := authServer(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := endpointConfig(hangs).Exchange(ctx, "the-code", "")
		var te *b24oauth.TokenError
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v; want the caller's own end after 3s", time.Since(start), err)
		}

		start = time.Now()
		_, err = endpointConfig(hangs).Exchange(t.Context(), "the-code", "")
		if !errors.Is(err, b24oauth.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 15*time.Second {
			t.Errorf("after %v: %v; want a passing TokenError after 15s", time.Since(start), err)
		}
	})
}

func TestAuthCodeURLLeadsToThePortal(t *testing.T) {
	const query = "?client_id=app.1%26evil%3D1&state=a%26b%3Dc+%2F%23"
	for portal, want := range map[string]string{
		"example.bitrix24.com":               "https://example.bitrix24.com/oauth/authorize/",
		"example.bitrix24.com/":              "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com":       "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com/":      "https://example.bitrix24.com/oauth/authorize/",
		"https://example.bitrix24.com/rest/": "https://example.bitrix24.com/oauth/authorize/",
		"example.bitrix24.com/rest/":         "https://example.bitrix24.com/oauth/authorize/",
		"//example.bitrix24.com":             "https://example.bitrix24.com/oauth/authorize/",
		"https://user:pass@portal.example":   "https://portal.example/oauth/authorize/",
		"portal.example:8443":                "https://portal.example:8443/oauth/authorize/",
		"127.0.0.1:8080":                     "https://127.0.0.1:8080/oauth/authorize/",
		"http://localhost:8080":              "http://localhost:8080/oauth/authorize/",
		"javascript://portal.example/alert":  "https://portal.example/oauth/authorize/",
		"portal.example?x=1#y":               "https://portal.example/oauth/authorize/",
		"por tal.example":                    "https://por%20tal.example/oauth/authorize/",
	} {
		c := endpointConfig(nil, func(c *b24oauth.Config) { c.ClientID = "app.1&evil=1" })
		if got := c.AuthCodeURL(portal, "a&b=c /#"); got != want+query {
			t.Errorf("AuthCodeURL(%q):\n got %s\nwant %s", portal, got, want+query)
		}
	}
}
