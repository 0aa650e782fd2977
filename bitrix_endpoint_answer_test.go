package b24oauth_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestPublishedAnswersBecomeGrants(t *testing.T) {
	quoteNumbers := strings.NewReplacer(`1780319382`, `"1780319382"`, `3600`, `"3600"`, `67}`, `"67"}`)
	refreshed := b24oauth.Grant{
		ClientID: "app.1", MemberID: "a223c6b3710f85df22e9377d6c4f7553",
		ClientEndpoint: "https://portal.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
		AccessToken: "ydtj8pho532wydb5ixk78ol7uqlb7sch", RefreshToken: "3s6lr4kr3cv2od4v853gvrchb875bwxb",
		Scope: "crm,entity,im,task", Status: "F", UserID: 67,
	}
	exchanged := refreshed
	exchanged.AccessToken, exchanged.RefreshToken, exchanged.UserID = "s1morf609228iwyjjpvfv6wsvuja4p8u", "4f9k4jpmg13usmybzuqknt2v9fh0q6rl", 0
	proxied := b24oauth.Grant{
		ClientID: "app.1", MemberID: "MY_MEMBER_ID",
		ClientEndpoint: "https://molinos.bitrix24.ru/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
		AccessToken:  "d3649b60002d57f600000c6e000003e0000003af3268d7306c5146016aa02478352371",
		RefreshToken: "c3e3c260002d57f600000c6e000003e000000336eb479587163854e87e224265dfde48",
		Scope:        "app", Status: "L", UserID: 992,
	}
	tests := []struct {
		name, body string
		want       b24oauth.Grant
	}{
		{"refresh", fixture(t, "token-refresh.json"), refreshed},
		{"refresh, numbers as strings", quoteNumbers.Replace(fixture(t, "token-refresh.json")), refreshed},
		{"exchange", fixture(t, "token-exchange.json"), exchanged},
		{"by a portal in 2021", fixture(t, "token-portal-proxy-2021.json"), proxied},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := time.Now()
				c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
					<-time.After(5 * time.Second) // the lifetime began before
					return answers(200, test.body)(req)
				}))
				test.want.Issued, test.want.Expiry = asked, asked.Add(time.Hour)

				got, err := c.Exchange(t.Context(), "the-code", "")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&test.want, got); diff != "" {
					t.Errorf("Exchange (-want +got):\n%s", diff)
				}

				asked = time.Now()
				test.want.Issued, test.want.Expiry = asked, asked.Add(time.Hour)
				got, err = renewed(t, c, &b24oauth.Grant{RefreshToken: "the-refresh-token"})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&test.want, got, butForItsLineage); diff != "" {
					t.Errorf("refresh (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLifetimeIsBelievedWithinReason(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		expires string // members of the answer; %d stands for asked, in Unix time, plus 1800 s
		want    time.Duration
	}{
		{`"expires_in":3600`, time.Hour},
		{`"expires_in":3599`, 3599 * time.Second},
		{`"expires_in":"3599"`, 3599 * time.Second},
		{`"expires_in":2592000`, 30 * day},
		{`"expires_in":60,"expires":%d`, time.Minute}, // our clock, not the server's
		{`"expires":%d`, 30 * time.Minute},
		{`"expires":"%d"`, 30 * time.Minute},
		{`"expires_in":-1,"expires":%d`, 30 * time.Minute},
		{`"expires_in":"soon","expires":%d`, 30 * time.Minute},
		{`"expires_in":null,"expires":%d`, 30 * time.Minute},
		{`"status":"F"`, time.Hour},
		{`"expires_in":-1`, time.Hour},
		{`"expires_in":0`, time.Hour},
		{`"expires_in":1e30`, time.Hour},
		{`"expires_in":1e-10`, time.Hour},
		{`"expires_in":"NaN"`, time.Hour},
		{`"expires_in":"+Inf"`, time.Hour},
		{`"expires_in":2592001`, time.Hour},
		{`"expires_in":"soon"`, time.Hour},
		{`"expires_in":null`, time.Hour},
		{`"expires_in":{"seconds":60}`, time.Hour},
		{`"expires_in":[60]`, time.Hour},
		{`"expires_in":true`, time.Hour},
		{`"expires":1`, time.Hour},
		{`"expires":-9223372036854775808`, time.Hour},
		{`"expires":9223372036854775807`, time.Hour},
		{`"expires":"tomorrow"`, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.expires, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := time.Now()
				expires := strings.ReplaceAll(test.expires, "%d", fmt.Sprint(asked.Unix()+1800))
				c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
					<-time.After(3 * time.Second)
					return answers(200, `{"access_token":"a","refresh_token":"r",`+expires+`}`)(req)
				}))
				g, err := renewed(t, c, spent())
				if err != nil {
					t.Fatal(err)
				}
				if got := g.Expiry.Sub(asked); got != test.want {
					t.Errorf("the token lives for %v from when it was asked for, want %v", got, test.want)
				}
			})
		})
	}
}

func TestAnswerErasesNothingItDoesNotBring(t *testing.T) {
	tests := []struct {
		name, members string
		want          func(*b24oauth.Grant) // changes spent into what is stored
	}{
		{"tokens only", `"refresh_token":"new"`, func(g *b24oauth.Grant) { g.RefreshToken = "new" }},
		{"no refresh token", `"status":"F"`, func(g *b24oauth.Grant) { g.Status = "F" }},
		{"an empty refresh token", `"refresh_token":""`, func(*b24oauth.Grant) {}},
		{"scope app", `"scope":"app"`, func(*b24oauth.Grant) {}},
		{"another scope list", `"scope":"crm"`, func(g *b24oauth.Grant) { g.Scope = "crm" }},
		{"everything empty", `"scope":"","status":"","member_id":"","client_endpoint":"","server_endpoint":"","user_id":0`, func(*b24oauth.Grant) {}},
		{"everything null", `"scope":null,"status":null,"member_id":null,"client_endpoint":null,"server_endpoint":null,"user_id":null,"refresh_token":null`, func(*b24oauth.Grant) {}},
		{"everything of another type", `"scope":[],"status":{},"member_id":false,"client_endpoint":[1],"server_endpoint":{},"user_id":"x","refresh_token":{}`, func(*b24oauth.Grant) {}},
		{"an endpoint without a host", `"client_endpoint":"/rest/"`, func(*b24oauth.Grant) {}},
		{"an endpoint without https", `"client_endpoint":"http://portal.bitrix24.com/rest/"`, func(*b24oauth.Grant) {}},
		{"an endpoint with user info", `"client_endpoint":"https://portal.bitrix24.com@evil.example/rest/"`, func(*b24oauth.Grant) {}},
		{"an endpoint with a query", `"client_endpoint":"https://portal.bitrix24.com/rest/?a=b"`, func(*b24oauth.Grant) {}},
		{"an endpoint without a path", `"client_endpoint":"https://portal.bitrix24.com"`, func(*b24oauth.Grant) {}},
		{"an endpoint that is no URL", `"client_endpoint":"https://[portal/rest/"`, func(*b24oauth.Grant) {}},
		{"an unknown server", `"server_endpoint":"https://evil.example/rest/"`, func(*b24oauth.Grant) {}},
		{"a server without a host", `"server_endpoint":"https://:"`, func(*b24oauth.Grant) {}},
		{"a server without https", `"server_endpoint":"http://oauth.bitrix.info/rest/"`, func(*b24oauth.Grant) {}},
		{"the other server", `"server_endpoint":"https://oauth.bitrix24.tech/rest/"`, func(g *b24oauth.Grant) { g.ServerEndpoint = "https://oauth.bitrix24.tech/rest/" }},
		{"the same address, written otherwise", `"client_endpoint":"HTTPS://Portal.Bitrix24.com:443/rest"`, func(*b24oauth.Grant) {}},
		{"a new address", `"member_id":"member","client_endpoint":"https://new.bitrix24.com/rest/"`, func(g *b24oauth.Grant) {
			g.ClientEndpoint = "https://new.bitrix24.com/rest/"
			g.FormerHosts = []string{"first.bitrix24.com", "portal.bitrix24.com"}
		}},
		{"a new address of no named portal", `"client_endpoint":"https://new.bitrix24.com/rest/"`, func(g *b24oauth.Grant) {
			g.ClientEndpoint, g.FormerHosts = "https://new.bitrix24.com/rest/", nil
		}},
		{"a former address again", `"member_id":"member","client_endpoint":"https://first.bitrix24.com/rest/"`, func(g *b24oauth.Grant) {
			g.ClientEndpoint = "https://first.bitrix24.com/rest/"
			g.FormerHosts = []string{"portal.bitrix24.com"}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := spent()
				want.AccessToken, want.Issued, want.Expiry = "new-access", time.Now(), time.Now().Add(time.Hour)
				test.want(want)
				got, err := renewed(t, endpointConfig(answers(200, `{"access_token":"new-access",`+test.members+`}`)), spent())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, butForItsLineage); diff != "" {
					t.Errorf("stored grant (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestRenamingThereAndBackRemembersEachAddressOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := "portal"
		c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
			return answers(200, `{"access_token":"a-`+name+`","refresh_token":"r-`+name+nextSuffix()+`","member_id":"member","client_endpoint":"https://`+name+`.bitrix24.com/rest/"}`)(req)
		}))
		g := spent()
		g.FormerHosts = nil
		if err := c.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name   string
			former []string
		}{
			{"new", []string{"portal.bitrix24.com"}},
			{"portal", []string{"new.bitrix24.com"}},
			{"third", []string{"new.bitrix24.com", "portal.bitrix24.com"}},
			{"new", []string{"portal.bitrix24.com", "third.bitrix24.com"}},
		} {
			name = step.name
			<-time.After(2 * time.Hour)
			if _, err := c.TokenSource(key).Token(); err != nil {
				t.Fatal(err)
			}
			got, err := c.TokenSource(key).Grant(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(step.former, got.FormerHosts); diff != "" {
				t.Errorf("former hosts after the renaming to %s (-want +got):\n%s", name, diff)
			}
		}
	})
}

// nextSuffix makes the refresh tokens of one test differ.
var nextSuffix = func() func() string {
	var n atomic.Int64
	return func() string { return fmt.Sprintf("-%05d", n.Add(1)) }
}()

func TestConfiguredServerIsKeptInTheGrant(t *testing.T) {
	for answered, want := range map[string]string{
		"https://oauth.own.example/rest/":     "https://oauth.own.example/rest/",
		"https://oauth.bitrix24.tech/rest/":   "https://oauth.bitrix24.tech/rest/",
		"https://evil.example/rest/":          "https://oauth.bitrix.info/rest/",
		"https://a@oauth.own.example/rest/":   "https://oauth.bitrix.info/rest/",
		"http://oauth.own.example/rest/":      "https://oauth.bitrix.info/rest/",
		"https://oauth.own.example:444/rest/": "https://oauth.bitrix.info/rest/",
	} {
		c := endpointConfig(answers(200, `{"access_token":"a","refresh_token":"r","server_endpoint":"`+answered+`"}`))
		c.TokenURL = "https://oauth.own.example/oauth/token/"
		g, err := renewed(t, c, spent())
		if err != nil {
			t.Fatal(err)
		}
		if g.ServerEndpoint != want {
			t.Errorf("answer with %q: stored %q, want %q", answered, g.ServerEndpoint, want)
		}
	}
}

func TestDescriptionIsShortened(t *testing.T) {
	_, err := endpointConfig(answers(400, `{"error":"invalid_grant","error_description":"`+strings.Repeat("ü", 5000)+`"}`)).Exchange(t.Context(), "the-code", "")
	var te *b24oauth.TokenError
	if !errors.As(err, &te) || te.Description != strings.Repeat("ü", 100)+"…" {
		t.Errorf("error %v", err)
	}
}

// endlessBody counts what is read of it.
type endlessBody struct {
	start  io.Reader
	read   int
	closed bool
}

func (b *endlessBody) Read(p []byte) (int, error) {
	n, err := b.start.Read(p)
	if err == io.EOF {
		for n = range p {
			p[n] = 'a'
		}
		n = len(p)
	}
	b.read += n
	return n, nil
}

func (b *endlessBody) Close() error { b.closed = true; return nil }

func TestNoMoreThanAMebibyteOfAnAnswerIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []*endlessBody
		_, err := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
			resp, _ := answers(200, "")(req)
			body := &endlessBody{start: strings.NewReader(`{"access_token":"`)}
			bodies = append(bodies, body)
			resp.Body = body
			return resp, nil
		})).Exchange(t.Context(), "the-code", "")
		if !errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), "larger than 1 MiB") {
			t.Errorf("error %v", err)
		}
		if len(bodies) != 3 {
			t.Errorf("%d requests, want 3", len(bodies))
		}
		for _, b := range bodies {
			// retryablehttp drains 4 KiB before it asks again; one byte tells that there is more.
			if b.read > 1<<20+1+4096 || !b.closed {
				t.Errorf("%d bytes were read, closed: %v", b.read, b.closed)
			}
		}
	})
}

// net/http quotes a line that it cannot read.
func TestAnswerThatIsNoHTTPIsNotQuoted(t *testing.T) {
	const pair = `{"access_token":"CANARYaccess1f2e3d","refresh_token":"CANARYrefresh9a8b7c"}`
	for name, raw := range map[string]string{
		"no empty line after the head": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + pair,
		"no status line":               pair + "\r\n",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4<<10))
				_, _ = conn.Write([]byte(raw))
				conn.Close()
			}
		}()
		c := endpointConfig(nil, func(c *b24oauth.Config) {
			c.TokenClient, c.TokenURL = nil, "http://"+listener.Addr().String()+"/oauth/token/"
		})
		_, err = c.Exchange(t.Context(), "the-code", "")
		if err == nil || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "no HTTP") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestGuarantee7PairOfAnotherPortalIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		grants, answers string
		used            bool
	}{
		"another portal's":            {"A", "B", false},
		"another's, in other letters": {"a", "A", false},
		"the grant's own":             {"A", "A", true},
		"of no named portal":          {"A", "", true},
		"for a grant that names none": {"", "B", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgramWithoutGrant(t, with(new(b24oauth.MemoryStore), nil))
				g := p.Install()
				g.MemberID = c.grants
				if err := p.config.Save(t.Context(), key, g); err != nil {
					t.Fatal(err)
				}
				before := stored(t, p)
				p.FailTokens(1<<20, b24test.Answer{Status: 200, Body: fmt.Sprintf(
					`{"access_token":"new","refresh_token":"next","expires_in":3600,"member_id":%q,"client_endpoint":"https://other.example/rest/"}`, c.answers)})
				<-time.After(2 * time.Hour)
				if c.used {
					if got := token(t, p.source); got != "new" {
						t.Errorf("the token is %q", got)
					}
					var sent []string
					resp, err := p.over(roundTripFunc(func(r *http.Request) (*http.Response, error) {
						sent = append(sent, r.URL.Host)
						return answer(401, `{"error":"expired_token"}`), nil
					})).RoundTrip(post(t, g.ClientEndpoint+"m", formType, "a=1"))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					// Without the same member_id it is no renamed portal, and what is
					// meant for the one does not go to the other.
					if moved := slices.Contains(sent, "other.example"); moved != (c.grants != "" && c.grants == c.answers) {
						t.Errorf("the request went to %q", sent)
					}
					return
				}
				te := wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
				for _, want := range []string{strconv.Quote(c.grants), strconv.Quote(c.answers), "authorize the application again"} {
					if !strings.Contains(te.Error(), want) {
						t.Errorf("%v does not say %s", te, want)
					}
				}
				if diff := cmp.Diff(before, stored(t, p)); diff != "" {
					t.Errorf("the stored grant has changed (-before +after):\n%s", diff)
				}
				sent := 0
				resp, err := p.over(roundTripFunc(func(*http.Request) (*http.Response, error) {
					sent++
					return answer(200, "{}"), nil
				})).RoundTrip(post(t, p.Endpoint()+"m", formType, "a=1"))
				if resp != nil || !errors.Is(err, b24oauth.ErrReauthorize) || sent != 0 {
					t.Errorf("%v, %v, %d requests; want the error and none", resp, err, sent)
				}
				wantRequests(t, p, 1)
			})
		})
	}
}
