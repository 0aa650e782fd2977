package b24oauth_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestGuarantee12RenamedPortalIsFollowed(t *testing.T) {
	t.Run("with method and body", renameFollowed)
	t.Run("after a restart", renameRemembered)
	t.Run("twice", renamedTwice)
	t.Run("a body that cannot be had again", renameBodyGone)
	t.Run("over one connection", renameOverOneConnection)
	t.Run("and refused there at once", renameAndReplay)
	t.Run("not if the authorization server does not say so", redirectUnconfirmed)
}

func hostOf(t *testing.T, raw string) string { return mustParse(t, raw).Host }

func renameFollowed(t *testing.T) {
	for _, c := range []struct{ name, method, kind, body, want string }{
		{"GET", "GET", "", "", ""},
		{"DELETE", "DELETE", "", "", ""},
		{"form", "POST", formType, "a=1", "auth=TOKEN&a=1"},
		{"JSON", "POST", jsonType, ` {"a":"1"}`, ` {"a":"1","auth":"TOKEN"}`},
		{"PUT", "PUT", "text/plain", "x", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram(t)
			p.accept(t)
			old := p.Rename()
			l := &leaks{base: p.base()}
			req := post(t, old+"/rest//crm.deal.add?b=%7e", c.kind, c.body)
			req.Method = c.method
			resp, err := p.over(l).RoundTrip(req)
			if err == nil && resp.Request != req {
				t.Error("the response is to another request than the caller's")
			}
			p.check(t, "renamed", outcome{200, 2, 1}, status(t, resp, err))
			l.check(t, 2)

			token := token(t, p.source)
			requests := p.Requests()
			r := requests[len(requests)-1]
			type sent struct{ Method, Host, Path, Auth, Body string }
			got := sent{r.Method, r.Host, r.Path, r.Auth, strings.ReplaceAll(string(r.Body), token, "TOKEN")}
			want := sent{c.method, hostOf(t, p.URL()), "/rest//crm.deal.add", token, c.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.HasSuffix(r.Query, "b=%7e") {
				t.Errorf("the query became %q", r.Query)
			}
		})
	}
}

func renameRemembered(t *testing.T) {
	store := new(b24oauth.MemoryStore)
	p := newProgram(t, func(c *b24oauth.Config) { c.Store = store })
	old := p.Rename()
	resp, err := p.client.Do(post(t, old+"/rest/m", formType, "a=1"))
	p.check(t, "renamed", outcome{200, 2, 1}, status(t, resp, err))
	g, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if g.ClientEndpoint != p.Endpoint() || !cmp.Equal(g.FormerHosts, []string{hostOf(t, old)}) {
		t.Errorf("the Store has endpoint %s and former hosts %v, want %s and the old one", g.ClientEndpoint, g.FormerHosts, p.Endpoint())
	}

	p.restart(func(c *b24oauth.Config) { c.Store = store })
	for _, base := range []string{old, p.URL()} {
		p.Reset()
		resp, err := p.client.Do(post(t, base+"/rest/m", jsonType, `{"a":1}`))
		p.check(t, "after the restart", outcome{200, 1, 0}, status(t, resp, err))
		if r := p.Requests()[0]; r.Host != hostOf(t, p.URL()) {
			t.Errorf("the request went to %s, want the new address %s", r.Host, p.URL())
		}
	}
}

func renamedTwice(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			first := p.Rename()
			resp, err := p.client.Do(post(t, first+"/rest/m", formType, "a=1"))
			p.check(t, "first", outcome{200, 2, 1}, status(t, resp, err))
			<-time.After(21 * time.Second) // a portal cannot make us refresh at will
			second := p.Rename()
			for _, base := range []string{first, second, p.URL()} {
				resp, err = p.client.Do(post(t, base+"/rest/m", formType, "a=1"))
				if got := status(t, resp, err); got != 200 {
					t.Errorf("%s: status %d", base, got)
				}
			}
			p.check(t, "second", outcome{0, 6, 2}, 0)
			g, err := p.source.Grant(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{hostOf(t, first), hostOf(t, second)}, g.FormerHosts); diff != "" {
				t.Errorf("former hosts (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("before anyone called", func(t *testing.T) {
		// The first address still leads to the second, which is not the
		// portal's any more: the authorization server's word counts.
		p := newProgram(t)
		first := p.Rename()
		second := p.Rename()
		chained := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := p.base().RoundTrip(req)
			if err == nil && req.URL.Host == hostOf(t, first) {
				resp.Header.Set("Location", second+"/rest/m")
			}
			return resp, err
		})
		resp, err := p.over(chained).RoundTrip(post(t, first+"/rest/m", formType, "a=1"))
		p.check(t, "chain", outcome{200, 2, 1}, status(t, resp, err))
		if r := p.Requests()[1]; r.Host != hostOf(t, p.URL()) || r.Method != "POST" {
			t.Errorf("%s went to %s, want a POST to %s", r.Method, r.Host, p.URL())
		}
	})
	t.Run("and back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			endpoints := []string{"https://a.example/rest/", "https://b.example/rest/"}
			p := newProgramAt(t, endpoints[0])
			present := 1
			base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
				if to := mustParse(t, endpoints[present]); req.URL.Host != to.Host {
					resp := answer(302, "")
					resp.Header.Set("Location", to.Scheme+"://"+to.Host+req.URL.RequestURI())
					return resp, nil
				}
				return answer(200, "{}"), nil
			})
			for i, at := range []int{1, 0, 1} {
				<-time.After(21 * time.Second)
				present = at
				p.FailTokens(1, b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"t%d","refresh_token":"r%d","member_id":"own","client_endpoint":%q}`, i, i, endpoints[at])})
				for _, e := range endpoints {
					resp, err := p.over(base).RoundTrip(post(t, e+"m", formType, "a=1"))
					if got := status(t, resp, err); got != 200 {
						t.Errorf("renamed %d times, called at %s: status %d", i+1, e, got)
					}
				}
			}
			if n := p.refreshesAt(); n != 3 {
				t.Errorf("%d refreshes, want 3", n)
			}
		})
	})
}

func renameBodyGone(t *testing.T) {
	p := newProgram(t)
	p.accept(t)
	old := p.Rename()
	tr := p.over(p.base())
	resp, err := tr.RoundTrip(post(t, old+"/rest/m", formType, unknown("a=1")))
	p.check(t, "redirect", outcome{302, 1, 1}, status(t, resp, err))
	resp, err = tr.RoundTrip(post(t, old+"/rest/m", formType, unknown("a=1")))
	p.check(t, "the next call", outcome{200, 2, 1}, status(t, resp, err))
}

func renameOverOneConnection(t *testing.T) {
	var portal *httptest.Server
	portal = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "127.") {
			http.Redirect(w, r, "http://localhost:"+mustParse(t, portal.URL).Port()+r.RequestURI, http.StatusFound)
		}
	}))
	defer portal.Close()
	renamed := "http://localhost:" + mustParse(t, portal.URL).Port()
	p := newProgramAt(t, portal.URL+"/rest/")
	p.FailTokens(1, b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"second","refresh_token":"r","member_id":"own","client_endpoint":%q}`, renamed+"/rest/")})
	base := &http.Transport{MaxConnsPerHost: 1}
	defer base.CloseIdleConnections()
	l := &leaks{base: base}
	for range 3 {
		resp, err := p.over(l).RoundTrip(post(t, portal.URL+"/rest/m", formType, "a=1"))
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200", got)
		}
	}
	l.check(t, 4)
}

func renameAndReplay(t *testing.T) {
	// Each happens once in one call, in either order, and neither twice; but one
	// portal gets no two tokens at once.
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.accept(t)
		old := p.Rename()
		p.RefuseNext(1, expired)
		resp, err := p.client.Do(post(t, old+"/rest/m", formType, "a=1"))
		p.check(t, "renamed, then refused", outcome{401, 2, 1}, status(t, resp, err))
		<-time.After(10 * time.Second)
		p.RefuseNext(1, expired)
		resp, err = p.client.Do(post(t, old+"/rest/m", formType, "a=1"))
		p.check(t, "ten seconds later", outcome{200, 4, 2}, status(t, resp, err))
	})

	// A portal that is always elsewhere ends at the caller.
	p := newProgramAt(t, "https://p0.example/rest/")
	calls := 0
	tr := p.over(roundTripFunc(func(*http.Request) (*http.Response, error) {
		calls++
		if calls == 1 {
			return answer(200, "{}"), nil
		}
		next := fmt.Sprintf("https://p%d.example/rest/", calls)
		p.FailTokens(1, b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"t%d","refresh_token":"r%[1]d","member_id":"own","client_endpoint":%[2]q}`, calls, next)})
		resp := answer(302, "")
		resp.Header.Set("Location", next)
		return resp, nil
	}))
	for i, want := range []int{200, 302} {
		resp, err := tr.RoundTrip(get(t, "https://p0.example/rest/m"))
		if got := status(t, resp, err); got != want {
			t.Errorf("call %d: status %d, want %d", i+1, got, want)
		}
	}
	if calls != 3 {
		t.Errorf("%d calls, want 3: of the second two, as the portal is followed once", calls)
	}
}

func redirectUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.accept(t)
		redirecting := func(target string) *b24oauth.Transport {
			return p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
				resp, err := p.base().RoundTrip(req)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					resp = answer(302, "moved")
					resp.Header.Set("Location", target+req.URL.RequestURI())
				}
				return resp, err
			}))
		}
		call := func(target string) {
			t.Helper()
			req := get(t, p.Endpoint()+"m?a=1")
			resp, err := redirecting(target).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(t, resp); resp.StatusCode != 302 || got != "moved" || resp.Request != req {
				t.Errorf("status %d, body %q; want the redirect, whole", resp.StatusCode, got)
			}
			if got, want := resp.Header.Get("Location"), target+"/rest/m?a=1"; got != want {
				t.Errorf("Location %q, want %q", got, want)
			}
		}
		const one, two = "https://one.example", "https://two.example"
		for range 5 {
			call(one)
			<-time.After(time.Second)
		}
		p.check(t, "one target", outcome{0, 5, 1}, 0)
		<-time.After(10 * time.Second)
		p.accept(t)
		for range 5 {
			call(two)
			call(one)
		}
		if n := p.Refreshes(); n != 1 {
			t.Errorf("%d more refreshes for another target, want 1", n)
		}
		// Targets that no token could go to cost nothing.
		p.Reset()
		for _, target := range []string{"http://three.example", "https://u:p@three.example", "ftp://three.example", "https://", "http://[::1"} {
			call(target)
		}
		if n := p.Refreshes(); n != 0 {
			t.Errorf("%d refreshes for targets without https, want none", n)
		}
		// What was asked about a host is known for the next tokens, too.
		for range 3 {
			<-time.After(2 * time.Hour)
			p.accept(t)
			call(one)
			call(two)
		}
		if n := p.Refreshes(); n != 0 {
			t.Errorf("%d refreshes for hosts that were asked about, want none", n)
		}
	})
	t.Run("nor if it cannot be asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			p.accept(t)
			p.KillGrants()
			old := p.Rename()
			resp, err := p.client.Transport.RoundTrip(post(t, old+"/rest/m", formType, "a=1"))
			if got := status(t, resp, err); got != 302 {
				t.Errorf("status %d, want 302", got)
			}
			if got, want := resp.Header.Get("Location"), p.URL()+"/rest/m"; got != want {
				t.Errorf("Location %q, want %q", got, want)
			}
		})
	})
	t.Run("by http.Client, which follows it without the token", func(t *testing.T) {
		elsewhere, strangers := watchHost(t, nil)
		p := newProgramAt(t, "http://portal.localhost/rest/")
		client := &http.Client{Transport: p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "portal.localhost" {
				return http.DefaultTransport.RoundTrip(req)
			}
			resp := answer(302, "")
			resp.Header.Set("Location", elsewhere.URL+req.URL.RequestURI())
			return resp, nil
		}))}
		resp, err := client.Get("http://portal.localhost/rest/m?" + url.Values{"a": {"1"}}.Encode())
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200", got)
		}
		want := []seen{{URI: "/rest/m?a=1", Referer: "http://portal.localhost/"}}
		if diff := cmp.Diff(want, *strangers); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
