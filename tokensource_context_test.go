package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// waits are the calls that a caller's context ends, in a program whose
// authorization server does not answer, and whose Store neither once
// it is told so.
var waits = []struct {
	name  string
	store bool // it is the Store that does not answer
	call  func(ctx context.Context, t *testing.T, p *program) error
}{
	{"TokenContext", false, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.source.TokenContext(ctx)
		return err
	}},
	{"TokenContext of another source", true, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.config.TokenSource("another").TokenContext(ctx)
		return err
	}},
	{"Renew", false, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.source.Renew(ctx, nil)
		return err
	}},
	{"Grant", true, func(ctx context.Context, t *testing.T, p *program) error { _, err := p.source.Grant(ctx); return err }},
	{"Endpoint of another source", true, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.config.TokenSource("another").Endpoint(ctx)
		return err
	}},
	{"Exchange", false, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.config.Exchange(ctx, "code", "")
		return err
	}},
	{"Save, another job", false, func(ctx context.Context, t *testing.T, p *program) error {
		go p.source.Token()
		synctest.Wait()
		return p.config.Save(ctx, key, p.Install())
	}},
	{"Save", true, func(ctx context.Context, t *testing.T, p *program) error { return p.config.Save(ctx, key, p.Install()) }},
	{"Delete", true, func(ctx context.Context, t *testing.T, p *program) error { return p.config.Delete(ctx, key) }},
	{"Flush", false, func(ctx context.Context, t *testing.T, p *program) error {
		go p.source.Token()
		synctest.Wait()
		return p.config.Flush(ctx)
	}},
	{"Flush, an unsaved pair", false, func(ctx context.Context, t *testing.T, p *program) error {
		p.DelayTokens(0, 0)
		p.config.Store.(*faultyStore).failSaves()
		token(t, p.source)
		return p.config.Flush(ctx)
	}},
	{"RoundTrip", false, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.client.Transport.RoundTrip(post(t, p.Endpoint()+"m", formType, "a=1").WithContext(ctx))
		return err
	}},
	{"http.Client", false, func(ctx context.Context, t *testing.T, p *program) error {
		_, err := p.client.Do(post(t, p.Endpoint()+"m", formType, "a=1").WithContext(ctx))
		return err
	}},
	{"RoundTrip, its JSON body", false, func(ctx context.Context, t *testing.T, p *program) error {
		p.DelayTokens(0, 0)
		token(t, p.source)
		r, _ := io.Pipe()
		_, err := p.client.Transport.RoundTrip(post(t, p.Endpoint()+"m", jsonType, r).WithContext(ctx))
		return err
	}},
}

// endOf returns a context that ends in a second.
func endOf(t *testing.T, deadline bool, cause error) context.Context {
	const wait = time.Second
	if deadline {
		ctx, cancel := context.WithTimeoutCause(t.Context(), wait, cause)
		t.Cleanup(cancel)
		return ctx
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(wait, func() { cancel(cause) })
	return ctx
}

func TestGuarantee3EndOfACallersContextIsToldAsNetHTTPTellsIt(t *testing.T) {
	for _, w := range waits {
		for _, cause := range []error{nil, errors.New("shutting down")} {
			for _, deadline := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, cause %v, deadline %v", w.name, cause, deadline), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newProgram(t, with(newFaultyStore(), nil))
						<-time.After(2 * time.Hour)
						if p.DelayTokens(1<<20, 14*time.Second); w.store {
							p.config.Store.(*faultyStore).hang()
						}
						err := w.call(endOf(t, deadline, cause), t, p)
						wantEnd(t, err, deadline, cause)
						if w.name != "http.Client" && !strings.HasPrefix(err.Error(), "b24oauth: ") {
							t.Errorf("text %q", err)
						}
						<-time.After(time.Minute) // for the job that goes on
					})
				})
			}
		}
	}
}

// wantEnd checks that err is what net/http would say of the end of a context.
func wantEnd(t *testing.T, err error, deadline bool, cause error) {
	t.Helper()
	want := context.Canceled
	if deadline {
		want = context.DeadlineExceeded
	}
	if !errors.Is(err, want) || cause != nil && (!errors.Is(err, cause) || !strings.Contains(err.Error(), cause.Error())) {
		t.Fatalf("%v; want it to be %v because of %v", err, want, cause)
	}
	var ne net.Error
	if !errors.As(err, &ne) || ne.Timeout() != deadline || os.IsTimeout(err) != deadline {
		t.Errorf("%v: a %T, os.IsTimeout %v; want a net.Error that says %v", err, err, os.IsTimeout(err), deadline)
	}
}

func TestTimeoutOfAnHTTPClientIsOneWhileItWaitsForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.DelayTokens(1<<20, 14*time.Second)
		p.client.Timeout = time.Second
		_, err := p.client.PostForm(p.Endpoint()+"m", nil)
		if ue, ok := errors.AsType[*url.Error](err); !ok || !ue.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v; want a *url.Error that is a timeout", err)
		}
		<-time.After(time.Minute)
	})
}

// A cause is the caller's own, and may quote what the caller works with.
func TestGuarantee8CauseOfACallersEndLosesItsSecrets(t *testing.T) {
	for _, w := range waits {
		if strings.Contains(w.name, "another source") {
			continue // it has not seen the grant yet
		}
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t, with(newFaultyStore(), nil))
				secret := p.config.ClientSecret
				if strings.Contains(w.name, "body") {
					secret = token(t, p.source)
				} else {
					<-time.After(2 * time.Hour)
				}
				if p.DelayTokens(1<<20, 14*time.Second); w.store {
					p.config.Store.(*faultyStore).hang()
				}
				cause := errors.New("shutting down with " + secret)
				err := w.call(endOf(t, true, cause), t, p)
				if !errors.Is(err, cause) || !os.IsTimeout(err) || !strings.Contains(err.Error(), "shutting down") || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
					t.Errorf("%v (%#v)", err, err)
				}
				<-time.After(time.Minute)
			})
		})
	}
}
