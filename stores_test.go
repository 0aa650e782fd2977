package b24oauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
)

// hooked is a Store that a test interferes with.
type hooked struct {
	b24oauth.Store
	mu     sync.Mutex // guards the hooks; they run without it
	load   func(ctx context.Context) (*b24oauth.Grant, error)
	update func(ctx context.Context, fn updateFunc) error
	loads  int
}

func newHooked() *hooked { return &hooked{Store: new(b24oauth.MemoryStore)} }

func (h *hooked) onLoad(f func(context.Context) (*b24oauth.Grant, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.load = f
}

func (h *hooked) onUpdate(f func(context.Context, updateFunc) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.update = f
}

func (h *hooked) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	h.mu.Lock()
	f := h.load
	h.loads++
	h.mu.Unlock()
	if f != nil {
		return f(ctx)
	}
	return h.Store.Load(ctx, key)
}

func (h *hooked) Update(ctx context.Context, key string, fn updateFunc) error {
	h.mu.Lock()
	f := h.update
	h.mu.Unlock()
	if f != nil {
		return f(ctx, fn)
	}
	return h.Store.Update(ctx, key, fn)
}

// lookups is how often the Store was looked at.
func (h *hooked) lookups() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loads
}

// failSaves makes the Store lose what fn returns, as if its database went
// down meanwhile.
func (h *hooked) failSaves() {
	h.onUpdate(func(ctx context.Context, fn updateFunc) error {
		var fnErr error
		err := h.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g, fnErr = fn(ctx, g); fnErr == nil && g != nil {
				return nil, errDown
			}
			return g, fnErr
		})
		return err
	})
}

// diary notes events.
type diary struct {
	mu     sync.Mutex // guards events
	events []b24oauth.Event
}

func (d *diary) note(_ context.Context, e b24oauth.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// kinds returns the events' kinds in order, and forgets them.
func (d *diary) kinds() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var kinds []string
	for _, e := range d.events {
		kinds = append(kinds, e.Kind.String())
	}
	d.events = nil
	return kinds
}

func (d *diary) want(t *testing.T, kinds ...string) {
	t.Helper()
	if diff := cmp.Diff(kinds, d.kinds()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// stored returns the grant in the program's Store.
func stored(t *testing.T, p *program) *b24oauth.Grant {
	t.Helper()
	g, err := p.config.Store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// token returns the source's access token, which there must be.
func token(t *testing.T, s *b24oauth.TokenSource) string {
	t.Helper()
	tok, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	return tok.AccessToken
}

// wantFailure checks that there is no token, for this kind of reason, within
// this time.
func wantFailure(t *testing.T, s *b24oauth.TokenSource, kind error, within time.Duration) *b24oauth.TokenError {
	t.Helper()
	start := time.Now()
	_, err := s.Token()
	var te *b24oauth.TokenError
	if !errors.As(err, &te) || !errors.Is(err, kind) || time.Since(start) > within {
		t.Fatalf("Token failed after %v with %v; want %v within %v", time.Since(start), err, kind, within)
	}
	return te
}

func wantRefreshes(t *testing.T, p *program, want int) {
	t.Helper()
	if got := p.Refreshes(); got != want {
		t.Errorf("%d refreshes, want %d", got, want)
	}
}

func wantRequests(t *testing.T, p *program, want int) {
	t.Helper()
	if got := len(p.TokenRequests()); got != want {
		t.Errorf("%d requests to the authorization server, want %d", got, want)
	}
}

// with makes a Config use a Store and a diary.
func with(s b24oauth.Store, d *diary) func(*b24oauth.Config) {
	return func(c *b24oauth.Config) {
		c.Store = s
		if d != nil {
			c.OnEvent = d.note
		}
	}
}
