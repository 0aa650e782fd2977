package b24oauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestRefusalAfterAKilledHolderIsInDoubtAtFirst(t *testing.T) {
	t.Run("the holder was killed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shared, released := new(place), make(chan struct{})
			p := newProgram(t, with(shared.process("B", nil), nil))
			a := shared.process("A", released)
			killed := p.Config()
			killed.Store = a
			<-time.After(2 * time.Hour)
			p.DelayTokens(1, 5*time.Second)
			go func() { _, _ = killed.TokenSource(key).Token() }()
			<-time.After(time.Second)
			close(a.killed)
			<-time.After(testLease)
			start := time.Now()
			for time.Since(start) < 15*time.Second {
				te := wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
				if text := te.Error(); strings.Contains(text, "authorize the application") || !strings.Contains(text, "nothing has to be done") {
					t.Fatalf("the error tells to authorize again, too soon: %s", text)
				}
				<-time.After(100 * time.Millisecond)
			}
			<-time.After(time.Second)
			if te := wantFailure(t, p.source, b24oauth.ErrReauthorize, 0); te.Code != "invalid_grant" || te.Err != nil {
				t.Errorf("error %+v; want the server's words alone", te)
			}
			wantRequests(t, p, 2)
			close(released)
			<-time.After(2 * time.Minute)
		})
	})
	for _, tt := range []struct {
		name   string
		inside func(p *program)
	}{
		{"the holder was slow and its pair arrives", func(*program) {}},
		{"the server was down in between", func(p *program) { p.FailTokens(3, b24test.Answer{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := new(place)
				p := newProgram(t, with(shared.process("B", nil), nil))
				slow := p.Config()
				slow.Store = shared.process("A", nil)
				<-time.After(2 * time.Hour)
				p.DelayTokens(1, 14*time.Second)
				go func() { token(t, slow.TokenSource(key)) }()
				<-time.After(time.Second)
				shared.expireLease()
				tt.inside(p)
				for range 12 {
					wantFailure(t, p.source, b24oauth.ErrUnavailable, 3*time.Second)
					<-time.After(time.Second)
				}
				<-time.After(3 * time.Second)
				if token(t, p.source) != token(t, slow.TokenSource(key)) {
					t.Error("not the pair that arrived late")
				}
				wantRefreshes(t, p, 1)
			})
		})
	}
}

// A process that was stalled in the middle of its exchange, and refused, may
// have been overtaken.
func TestRefusalAfterExclusivityEndedIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(place)
		p := newProgram(t, with(shared.process("A", nil), nil))
		other := p.Config()
		other.Store = shared.process("B", nil)
		base := p.Client().Transport
		stall := true
		p.config.HTTPClient = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			if stall {
				stall = false
				<-time.After(5 * time.Second)
			}
			return base.RoundTrip(r)
		})}
		<-time.After(2 * time.Hour)
		done := make(chan error)
		go func() {
			_, err := p.source.Token()
			done <- err
		}()
		<-time.After(time.Second)
		shared.expireLease()
		p.DelayTokens(1, 6*time.Second)
		go func() { token(t, other.TokenSource(key)) }()
		if err := <-done; !errors.Is(err, b24oauth.ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable while the other's pair may arrive", err)
		}
		<-time.After(3 * time.Second)
		if token(t, p.source) != token(t, other.TokenSource(key)) {
			t.Error("not the other's pair")
		}
		wantRefreshes(t, p, 1)
	})
}
