package b24oauth_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// A portal that asks for a new token again and again: however it does, it is
// served once in ten seconds, and then more and more rarely.
func TestGuarantee6PortalCannotMakeUsRefreshAtWill(t *testing.T) {
	everyOther := func(answer func(i int, req *http.Request) *http.Response) func(*program) http.RoundTripper {
		return func(p *program) http.RoundTripper {
			calls := 0
			return roundTripFunc(func(req *http.Request) (*http.Response, error) {
				calls++
				if calls%2 == 1 {
					return p.base().RoundTrip(req)
				}
				if req.Body != nil {
					io.Copy(io.Discard, req.Body)
					req.Body.Close()
				}
				return answer(calls, req), nil
			})
		}
	}
	refuse := func(body string) func(int, *http.Request) *http.Response {
		return func(int, *http.Request) *http.Response { return answer(401, body) }
	}
	redirect := func(i int, req *http.Request) *http.Response {
		resp := answer(302, "")
		resp.Header.Set("Location", fmt.Sprintf("https://host-%d.example%s", i, req.URL.Path))
		return resp
	}
	for name, base := range map[string]func(*program) http.RoundTripper{
		"expired_token":  everyOther(refuse(expiredBody)),
		"invalid_token":  everyOther(refuse(`{"error":"INVALID_TOKEN"}`)),
		"without reason": everyOther(refuse(v3Denied)),
		"without a body": everyOther(refuse("")),
		"redirects":      everyOther(redirect),
		"both by turns": everyOther(func(i int, req *http.Request) *http.Response {
			if i%4 == 0 {
				return redirect(i, req)
			}
			return answer(401, expiredBody)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				tr := p.over(base(p))
				for range 200 {
					resp, err := tr.RoundTrip(post(t, p.Endpoint()+"m", formType, "a=1"))
					status(t, resp, err)
				}
				wantRefreshes(t, p, 1)
				start := time.Now() // 10, 30, 70, 150, 310, 630, 1270, 2170, 3070, … s
				for time.Since(start) < 50*time.Minute {
					resp, err := tr.RoundTrip(post(t, p.Endpoint()+"m", formType, "a=1"))
					status(t, resp, err)
					<-time.After(time.Second)
				}
				if n := p.Refreshes(); n > 9 {
					t.Errorf("%d exchanges in 50 minutes, want 9 at most", n)
				}
			})
		})
	}
}

func TestGuarantee6UploadsWithAStaleAuthCostOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		w.WriteField("auth", "stale")
		w.Close()
		for range 10 {
			resp, err := p.client.Do(post(t, p.Endpoint()+"disk.folder.uploadfile", w.FormDataContentType(), body.String()))
			if got := status(t, resp, err); got != http.StatusUnauthorized {
				t.Errorf("status %d, want the portal's 401", got)
			}
		}
		wantRefreshes(t, p, 1)
	})
}

// refusedAt has the portal refuse one call after a while, and reports whether
// that was answered by a renewal.
func (p *program) refusedAt(t *testing.T, after time.Duration) (renewed bool) {
	t.Helper()
	<-time.After(after)
	before := p.Refreshes()
	p.RefuseNext(1, expired)
	resp, err := p.client.Get(p.Endpoint() + "m")
	got := status(t, resp, err)
	renewed = p.Refreshes() > before
	if want := map[bool]int{true: 200, false: 401}[renewed]; got != want {
		t.Errorf("status %d, renewed %t", got, renewed)
	}
	return renewed
}

func TestGuarantee6PauseDoublesAndStartsAgain(t *testing.T) {
	wants := func(t *testing.T, p *program, after time.Duration, want bool) {
		t.Helper()
		if got := p.refusedAt(t, after); got != want {
			t.Errorf("refused %v later: renewed %t, want %t", after, got, want)
		}
	}
	t.Run("doubles up to 15 minutes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			for pause := 10 * time.Second; pause < 15*time.Minute; pause = min(2*pause, 15*time.Minute) {
				wants(t, p, pause-time.Millisecond, false)
				wants(t, p, time.Millisecond, true)
			}
			for range 3 {
				wants(t, p, 15*time.Minute-time.Millisecond, false)
				wants(t, p, time.Millisecond, true)
			}
			wants(t, p, 30*time.Minute+time.Millisecond, true)
			wants(t, p, 10*time.Second, true) // it started again
		})
	})
	t.Run("starts again after a quiet while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			for range 5 {
				wants(t, p, 20*time.Second+time.Millisecond, true)
				wants(t, p, 10*time.Second-time.Millisecond, false)
			}
		})
	})
	t.Run("ends by Save", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			if err := p.config.Save(t.Context(), key, p.Install()); err != nil {
				t.Fatal(err)
			}
			wants(t, p, 0, true)
			wants(t, p, 9*time.Second, false)
			wants(t, p, time.Second, true)
		})
	})
	t.Run("ends by Renew(nil)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			if _, err := p.source.Renew(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			wants(t, p, 0, true)
			wants(t, p, time.Second, false)
		})
	})
	t.Run("keeps no token that runs out from renewal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			p.SetLifetime(8 * time.Second)
			wants(t, p, 0, true)
			<-time.After(8 * time.Second)
			resp, err := p.client.Get(p.Endpoint() + "m")
			if got := status(t, resp, err); got != 200 || p.Refreshes() != 2 {
				t.Errorf("status %d after %d refreshes; want 200 after 2", got, p.Refreshes())
			}
		})
	})
	t.Run("is one portal's alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			wants(t, p, 0, false)
			if err := p.config.Save(t.Context(), "another", p.Install()); err != nil {
				t.Fatal(err)
			}
			p.source = p.config.TokenSource("another")
			p.client = &http.Client{Transport: p.over(p.base())}
			wants(t, p, 0, true)
		})
	})
	t.Run("tells a program without Transport", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			wants(t, p, 0, true)
			tok, err := p.source.Token()
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.source.Renew(t.Context(), &oauth2.Token{AccessToken: tok.AccessToken})
			if err == nil || !strings.Contains(err.Error(), "for 10s") {
				t.Errorf("Renew = %v; want to hear how long the pause is", err)
			}
		})
	})
}

func TestGuarantee12RedirectOfAFileIsTheCallersAtOnce(t *testing.T) {
	for _, path := range []string{"/docs/file.pdf", "/bitrix/tools/disk/uf.php", "/restful/m", "/"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				release := p.HoldTokens()
				defer release()
				tr := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
					resp := answer(302, "")
					resp.Header.Set("Location", "https://storage.example/x?"+req.URL.RawQuery)
					return resp, nil
				}))
				resp, err := tr.RoundTrip(get(t, p.URL()+path))
				if got := status(t, resp, err); got != 302 || strings.Contains(resp.Header.Get("Location"), "auth=") {
					t.Errorf("status %d to %s; want the redirect, without the token", got, resp.Header.Get("Location"))
				}
				wantRequests(t, p, 0)
			})
		})
	}
}

func TestRenewalIsLoggedInOneLineHoweverManyRequestsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events, log := new(eventLog), new(bytes.Buffer)
		p := newProgram(t, with(newFaultyStore(), events), func(c *b24oauth.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		p.accept(t)
		log.Reset()
		p.ExpireAccessTokens()
		p.DelayTokens(1, time.Second) // so that all are refused before the renewal ends
		together(100, func(int) {
			resp, err := p.client.Get(p.Endpoint() + "m")
			if got := status(t, resp, err); got != 200 {
				t.Errorf("status %d", got)
			}
		})
		if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "refusals=100") {
			t.Errorf("%d lines, want one that says that 100 were refused:\n%s", lines, log)
		}
		replayed := 0
		for _, kind := range events.kinds() {
			if kind == "replayed" {
				replayed++
			}
		}
		if replayed != 100 {
			t.Errorf("%d replays were told of, want 100", replayed)
		}
	})
}
