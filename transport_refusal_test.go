package b24oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func renewalFails(t *testing.T) {
	for _, c := range []struct {
		name      string
		fail      func(p *program)
		want      error
		permanent bool
	}{
		{"the grant is dead", func(p *program) { p.KillGrants() }, b24oauth.ErrReauthorize, true},
		{"the refresh token has expired", func(p *program) { p.ExpireRefreshTokens() }, b24oauth.ErrReauthorize, true},
		{"the server is down", func(p *program) { p.FailTokens(3, b24test.Answer{Status: 502, Body: "<html>"}) }, b24oauth.ErrUnavailable, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			p.accept(t)
			p.ExpireAccessTokens()
			c.fail(p)
			l := &leaks{base: p.base()}
			client := &http.Client{Transport: p.over(l)}
			body := watch("a=1")
			req := post(t, p.Endpoint()+"m", formType, body)
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("a=1")), nil }
			_, err := client.Do(req)
			var te *b24oauth.TokenError
			if !errors.As(err, &te) || !errors.Is(err, c.want) || te.Permanent() != c.permanent || te.Key != key {
				t.Errorf("%s: error %v, want a *TokenError that is %v", c.name, err, c.want)
			}
			if token := p.Requests()[0].Auth; err == nil || strings.Contains(err.Error(), token) {
				t.Errorf("%s: the error tells the token: %v", c.name, err)
			}
			l.check(t, 1)
			body.check(t)

			// A request that could not have been repeated gets the 401.
			p.Reset()
			resp, err := client.Do(post(t, p.Endpoint()+"m", formType, unknown("a=1")))
			if err != nil || resp.StatusCode != 401 || text(t, resp) != expiredBody {
				t.Errorf("%s: %v, %v; want the 401, whole", c.name, resp, err)
			}
		})
	}
	t.Run("no refresh token", func(t *testing.T) {
		p := newProgram(t)
		g := p.Install()
		g.MemberID, g.RefreshToken = "own", ""
		p.restart(func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		p.ExpireAccessTokens()
		resp, err := p.client.Get(p.Endpoint() + "m")
		if err != nil || resp.StatusCode != 401 || text(t, resp) != expiredBody {
			t.Errorf("%v, %v; want the 401, whole", resp, err)
		}
	})
}

func oneConnection(t *testing.T) {
	for _, filler := range []int{0, 70 << 10} {
		refusal := `{"error":"expired_token","error_description":"` + strings.Repeat("x", filler) + `"}`
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("auth") == "first" {
				w.WriteHeader(401)
				io.WriteString(w, refusal)
			}
		}))
		t.Cleanup(ts.Close)
		p := newProgramAt(t, ts.URL+"/rest/")
		base := &http.Transport{MaxConnsPerHost: 1}
		t.Cleanup(base.CloseIdleConnections)
		l := &leaks{base: base}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := p.over(l).RoundTrip(get(t, ts.URL+"/rest/m").WithContext(ctx))
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200", got)
		}
		l.check(t, 2)
	}
}

func ambiguousRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.accept(t)
		call := func() int {
			t.Helper()
			resp, err := p.client.Do(post(t, p.Endpoint()+"api/tasks.task.get", jsonType, `{"id":1}`))
			return status(t, resp, err)
		}
		// Renewed for it once; the replay is refused too, so it is not the token.
		p.RefuseNext(2, denied)
		p.check(t, "first", outcome{401, 2, 1}, call())
		for range 3 {
			p.RefuseNext(1, denied)
			if got := call(); got != 401 {
				t.Errorf("status %d, want 401", got)
			}
			<-time.After(5 * time.Minute)
		}
		if n := p.Refreshes(); n != 1 {
			t.Errorf("%d refreshes within the token's lifetime, want 1", n)
		}
		// Others go on with the token meanwhile.
		resp, err := p.client.Get(p.Endpoint() + "profile")
		p.Reset()
		p.check(t, "another call", outcome{200, 0, 0}, status(t, resp, err))

		// A refusal that says why is answered at once.
		p.RefuseNext(1, expired)
		p.check(t, "explicit", outcome{200, 2, 1}, call())
		p.Reset()

		// The new token may be doubted once as well, and so may the one after
		// its expiry.
		<-time.After(10 * time.Second)
		p.RefuseNext(2, denied)
		p.check(t, "the next token", outcome{401, 2, 1}, call())
		<-time.After(2 * time.Hour)
		p.Reset()
		p.check(t, "expired", outcome{200, 1, 1}, call())
		p.Reset()
		p.RefuseNext(2, denied)
		p.check(t, "after its expiry", outcome{401, 2, 1}, call())
	})
}

func ambiguousRefusalsOfSpentBodies(t *testing.T) {
	p := newProgram(t)
	p.accept(t)
	refreshes := 0
	for range 5 {
		p.RefuseNext(1, denied)
		req := post(t, p.Endpoint()+"api/tasks.task.get", jsonType, `{"id":1}`)
		req.GetBody = nil
		resp, err := p.client.Do(req)
		if got := status(t, resp, err); got != 401 {
			t.Errorf("status %d, want 401", got)
		}
		refreshes += p.Refreshes()
		p.accept(t) // another call, whose success says nothing about this one
	}
	if refreshes != 1 {
		t.Errorf("%d refreshes, want 1: the new token was refused like the old one", refreshes)
	}
}

func refusedHead(t *testing.T) { synctest.Test(t, refusedHeadInABubble) }

func refusedHeadInABubble(t *testing.T) {
	p := newProgram(t)
	p.accept(t)
	p.ExpireAccessTokens()
	resp, err := p.client.Head(p.Endpoint() + "m")
	p.check(t, "HEAD", outcome{200, 2, 1}, status(t, resp, err))
	p.Reset()
	<-time.After(10 * time.Second)
	p.RefuseNext(3, denied)
	resp, err = p.client.Head(p.Endpoint() + "m")
	p.check(t, "HEAD, refused again", outcome{401, 2, 1}, status(t, resp, err))
	resp, err = p.client.Head(p.Endpoint() + "m")
	p.check(t, "HEAD, once more", outcome{401, 3, 1}, status(t, resp, err))
}

func TestGuarantee6LateRefusalNeverCostsANewerToken(t *testing.T) {
	t.Run("a refusal that arrives after the renewal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			p.accept(t)
			p.ExpireAccessTokens()
			// Fifty calls are refused, all before the first of them is told.
			const calls = 50
			var refused sync.WaitGroup
			refused.Add(calls)
			tr := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
				resp, err := p.base().RoundTrip(req)
				if err == nil && resp.StatusCode == 401 {
					refused.Done()
					refused.Wait()
				}
				return resp, err
			}))
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					resp, err := tr.RoundTrip(get(t, p.Endpoint()+"m"))
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("call %d: status %d", i, resp.StatusCode)
					}
				})
			}
			wg.Wait()
			p.check(t, "", outcome{0, 2 * calls, 1}, 0)
		})
	})
	t.Run("a refusal that arrives much later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			p.accept(t)
			p.ExpireAccessTokens()
			arrived, release := make(chan struct{}), make(chan struct{})
			slow := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
				resp, err := p.base().RoundTrip(req)
				if err == nil && resp.StatusCode == 401 {
					close(arrived)
					<-release
				}
				return resp, err
			}))
			done := make(chan int)
			go func() {
				resp, err := slow.RoundTrip(get(t, p.Endpoint()+"late"))
				if err != nil {
					t.Error(err)
					done <- 0
					return
				}
				resp.Body.Close()
				done <- resp.StatusCode
			}()
			<-arrived
			resp, err := p.client.Get(p.Endpoint() + "m")
			p.check(t, "the call in between", outcome{200, 3, 1}, status(t, resp, err))
			newer := token(t, p.source)
			<-time.After(time.Minute)
			close(release)
			p.check(t, "the late one", outcome{200, 4, 1}, <-done)
			if token(t, p.source) != newer {
				t.Error("the newer token was given up")
			}
		})
	})
	t.Run("a program without Transport", func(t *testing.T) {
		p := newProgram(t)
		old, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := p.source.Renew(t.Context(), &oauth2.Token{AccessToken: old.AccessToken}); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.Refreshes(); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})
}

func TestEndOfTheCallersContextWhileItsTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.accept(t)
		p.ExpireAccessTokens()
		release := p.HoldTokens()
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l := &leaks{base: p.base()}
		body := watch("a=1")
		req := post(t, p.Endpoint()+"m", formType, body).WithContext(ctx)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("a=1")), nil }
		resp, err := p.over(l).RoundTrip(req)
		if resp != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v; want the deadline's error alone", resp, err)
		}
		l.check(t, 1)
		body.check(t)
		release()
		resp, err = p.client.Get(p.Endpoint() + "m")
		if got := status(t, resp, err); got != 200 || p.Refreshes() != 1 {
			t.Errorf("the next call: status %d after %d refreshes, want 200 after 1", got, p.Refreshes())
		}
	})
}
