package install_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/install"
)

const frameQuery = "DOMAIN=portal.bitrix24.com&PROTOCOL=1&LANG=de&APP_SID=3f2a"

func form(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func request(query, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/install", strings.NewReader(body))
	r.URL.RawQuery = query
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func TestReadGrant(t *testing.T) {
	for _, test := range []struct {
		name, query, body string
		want              b24oauth.Grant
	}{
		{"frame", frameQuery, form(t, "frame.form"), b24oauth.Grant{
			MemberID: "a223c6b3710f85df22e9377d6c4f7553", ClientEndpoint: "https://portal.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
			AccessToken: "ahodg4h37n89vo17gbkgq0x1l825nnb5", RefreshToken: "2lg086mxijlpvwh0h7r4nl19udm4try5", ApplicationToken: "ec1b2074a9d3f5c81b6e40d27a95cf38",
			Scope: "crm,entity,im,task", Status: "F",
		}},
		{"event", "", form(t, "event-onappinstall.form"), b24oauth.Grant{
			MemberID: "a223c6b3710f85df22e9377d6c4f7553", ClientEndpoint: "https://some-domain.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
			AccessToken: "s6p6eclrvim6da22ft9ch94ekreb52lv", RefreshToken: "4s386p3q0tr8dy89xvmt96234v3dljg8", ApplicationToken: "51856fefc120afa4b628cc82d3935cce",
			Scope: "imbot", Status: "F",
		}},
		{"an event with escaped names and a user", "", "event=OnAppInstall&auth%5Baccess_token%5D=a&auth%5Brefresh_token%5D=r&auth%5Buser_id%5D=67&auth%5Bexpires%5D=1", b24oauth.Grant{
			AccessToken: "a", RefreshToken: "r", UserID: 67,
		}},
		{"a frame of a portal without TLS", "DOMAIN=portal.example:8080&PROTOCOL=0", "AUTH_ID=a&REFRESH_ID=r&AUTH_EXPIRES=soon", b24oauth.Grant{
			ClientEndpoint: "http://portal.example:8080/rest/", AccessToken: "a", RefreshToken: "r",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(time.Minute)
				got, err := install.ReadGrant(request(test.query, test.body))
				if err != nil {
					t.Fatal(err)
				}
				test.want.Issued = time.Now().Round(0)
				test.want.Expiry = test.want.Issued.Add(time.Hour)
				if diff := cmp.Diff(stored(t, test.want), stored(t, *got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// stored is a grant in a form that tells all of it.
func stored(t testing.TB, g b24oauth.Grant) string {
	t.Helper()
	data, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReadGrantRefusesOtherRequests(t *testing.T) {
	const tokens = "AUTH_ID=s3cretaccess&REFRESH_ID=s3cretrefresh"
	for _, test := range []struct {
		name, query, body, want string
	}{
		{"nothing", "DOMAIN=portal.bitrix24.com", "", "no pair of tokens"},
		{"no refresh token", "DOMAIN=portal.bitrix24.com", "AUTH_ID=s3cretaccess", "no pair of tokens"},
		{"tokens in the query", "DOMAIN=portal.bitrix24.com&" + tokens, "", "no pair of tokens"},
		{"no domain", "", tokens, "DOMAIN is no host"},
		{"a domain with a path", "DOMAIN=evil.example/x%3f", tokens, "DOMAIN is no host"},
		{"a domain with user info", "DOMAIN=portal.bitrix24.com@evil.example", tokens, "DOMAIN is no host"},
		{"a domain with a fragment", "DOMAIN=evil.example%23.bitrix24.com", tokens, "DOMAIN is no host"},
		{"a port only", "DOMAIN=:443", tokens, "DOMAIN is no host"},
		{"a long domain", "DOMAIN=" + strings.Repeat("x/", 9999), tokens, "DOMAIN is no host"},
		{"another event", "", "event=ONCRMDEALADD&auth[access_token]=s3cretaccess&auth[refresh_token]=s3cretrefresh", `"ONCRMDEALADD" brings no pair`},
		{"an uninstallation", "", "event=ONAPPUNINSTALL&auth[application_token]=s3cret", "brings no pair"},
		{"an event without tokens", "", "event=ONAPPINSTALL&auth[application_token]=s3cret", "no pair of tokens"},
		{"a damaged form", "DOMAIN=portal.bitrix24.com", tokens + "&s3cret=%zz", "damaged"},
		{"too many fields to be a form", "DOMAIN=portal.bitrix24.com", strings.Repeat("s3cret=1&", 60000) + tokens, "larger than 64 KiB"},
	} {
		g, err := install.ReadGrant(request(test.query, test.body))
		if g != nil || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 300 {
			t.Errorf("%s: grant %v, error %v; want one that says %q", test.name, g, err, test.want)
		}
	}
}

// A forged installation would have the program call what only it can reach.
func TestPortalAtAPrivateAddressIsRefusedUnlessAllowed(t *testing.T) {
	for host, private := range map[string]bool{
		"127.0.0.1:8080": true, "[::1]": true, "[::ffff:10.0.0.1]:443": true, "[fd00::1]": true, "169.254.169.254": true, "192.168.0.1": true,
		"100.64.0.1": true, "0.0.0.0": true, "2130706433": true, "0x7f.1": true, "127.1": true, "0177.0.0.1": true,
		"localhost": true, "LOCALHOST.": true, "portal.localhost:8080": true, "１２７.０.０.１": true,
		"portal.bitrix24.com": false, "8.8.8.8:8443": false, "localhost.example": false,
	} {
		for name, send := range map[string]func() *http.Request{
			"frame": func() *http.Request {
				return request(url.Values{"DOMAIN": {host}, "PROTOCOL": {"0"}}.Encode(), "AUTH_ID=s3cret&REFRESH_ID=s3cret")
			},
			"frame's own form": func() *http.Request {
				return request(url.Values{"DOMAIN": {"portal.example"}}.Encode(), "AUTH_ID=s3cret&REFRESH_ID=s3cret&PROTOCOL=0&"+url.Values{"DOMAIN": {host}}.Encode())
			},
			"event": func() *http.Request {
				return request("", url.Values{"event": {"ONAPPINSTALL"}, "auth[access_token]": {"s3cret"}, "auth[refresh_token]": {"s3cret"}, "auth[client_endpoint]": {"https://" + host + "/rest/"}}.Encode())
			},
		} {
			g, err := install.ReadGrant(send())
			if (err != nil) != private || (g == nil) != private {
				t.Errorf("%s from %s: grant %v, error %v", name, host, g, err)
			}
			if private && (!strings.Contains(err.Error(), "AllowPrivate") || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("%s from %s: error %v, want one that says what to do", name, host, err)
			}
			if g, err := (install.Reader{AllowPrivate: true}).ReadGrant(send()); err != nil || !strings.Contains(g.ClientEndpoint, host) {
				t.Errorf("%s from %s, which is allowed: grant %v, error %v", name, host, g, err)
			}
		}
	}
}

func TestReadGrantWithoutABodyIsAnError(t *testing.T) {
	g, err := install.ReadGrant(&http.Request{Method: http.MethodPost, URL: new(url.URL)})
	if g != nil || err == nil {
		t.Errorf("grant %v, error %v", g, err)
	}
}

// What a request says is not believed where it would cost a secret.
func TestForgedInstallationIsNotSaved(t *testing.T) {
	for _, test := range []struct{ name, query, body, want string }{
		{"a server of its own", "", "event=ONAPPINSTALL&auth[access_token]=a&auth[refresh_token]=r&auth[client_endpoint]=https://portal.bitrix24.com/rest/&auth[server_endpoint]=https://oauth.bitrix.info.evil.example/rest/", "none of Bitrix24's"},
		{"a server of its own, in a frame", frameQuery, "AUTH_ID=a&REFRESH_ID=r&SERVER_ENDPOINT=https://oauth.bitrix.info@evil.example/rest/", "ServerEndpoint"},
		{"a portal without TLS", "DOMAIN=portal.bitrix24.com&PROTOCOL=0", "AUTH_ID=a&REFRESH_ID=r", "not https"},
		{"a webhook", "", "event=ONAPPINSTALL&auth[access_token]=a&auth[refresh_token]=r&auth[client_endpoint]=https://portal.bitrix24.com/rest/1/secret/", "webhook"},
		{"no portal", "", "event=ONAPPINSTALL&auth[access_token]=a&auth[refresh_token]=r", "no host"},
	} {
		g, err := install.ReadGrant(request(test.query, test.body))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		err = config().Save(t.Context(), "example", g)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that says %q", test.name, err, test.want)
		}
	}
}

func config() *b24oauth.Config {
	return &b24oauth.Config{ClientID: "app.1", ClientSecret: "the-client-secret"}
}

func FuzzReadGrant(f *testing.F) {
	f.Add(frameQuery, form(f, "frame.form"))
	f.Add("", form(f, "event-onappinstall.form"))
	f.Add("DOMAIN=[::1]:80&PROTOCOL=0", "AUTH_ID=a&REFRESH_ID=r&AUTH_EXPIRES=-1&SERVER_ENDPOINT=oauth.bitrix.info.")
	f.Add("", "event=ONAPPINSTALL&auth[access_token]=a&auth[refresh_token]=r&auth[expires_in]=1e30&auth[expires]=soon&auth[client_endpoint]=https://портал.example:443/rest")
	f.Fuzz(func(t *testing.T, query, body string) {
		r := install.Reader{AllowPrivate: true}
		g, err := r.ReadGrant(request(query, body))
		if (g == nil) == (err == nil) {
			t.Fatalf("grant %v, error %v", g, err)
		}
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if life := g.Expiry.Sub(g.Issued); life <= 0 || life > 30*24*time.Hour {
			t.Errorf("lifetime %v", life)
		}
		c := config()
		if c.Save(context.Background(), "example", g) != nil {
			return
		}
		saved, err := c.TokenSource("example").Grant(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		switch strings.ToLower(saved.ServerEndpoint) {
		case "", "oauth.bitrix.info", "oauth.bitrix24.tech":
		default:
			host := strings.ToLower(strings.SplitN(saved.ServerEndpoint+"///", "/", 4)[2])
			if host != "oauth.bitrix.info" && host != "oauth.bitrix24.tech" {
				t.Errorf("the client secret would go to %q", saved.ServerEndpoint)
			}
		}
		if !strings.HasPrefix(saved.ClientEndpoint, "https://") && !strings.HasPrefix(saved.ClientEndpoint, "http://") || !strings.HasSuffix(saved.ClientEndpoint, "/") {
			t.Errorf("the token would go to %q", saved.ClientEndpoint)
		}
	})
}
