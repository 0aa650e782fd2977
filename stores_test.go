package b24oauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// updateFunc is what Store.Update calls.
type updateFunc = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)

var errDown = errors.New("the database is down")

// faultyStore is a Store that a test interferes with.
type faultyStore struct {
	b24oauth.Store
	mu     sync.Mutex // guards the hooks; they run without it
	load   func(ctx context.Context) (*b24oauth.Grant, error)
	update func(ctx context.Context, fn updateFunc) error
	loads  int
}

func newFaultyStore() *faultyStore { return &faultyStore{Store: new(b24oauth.MemoryStore)} }

func (h *faultyStore) onLoad(f func(context.Context) (*b24oauth.Grant, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.load = f
}

func (h *faultyStore) onUpdate(f func(context.Context, updateFunc) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.update = f
}

func (h *faultyStore) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	h.mu.Lock()
	f := h.load
	h.loads++
	h.mu.Unlock()
	if f != nil {
		return f(ctx)
	}
	return h.Store.Load(ctx, key)
}

func (h *faultyStore) Update(ctx context.Context, key string, fn updateFunc) error {
	h.mu.Lock()
	f := h.update
	h.mu.Unlock()
	if f != nil {
		return f(ctx, fn)
	}
	return h.Store.Update(ctx, key, fn)
}

// lookups is how often the Store was looked at.
func (h *faultyStore) lookups() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loads
}

// failSaves makes the Store lose what fn returns, as if its database went
// down meanwhile.
func (h *faultyStore) failSaves() {
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

// hang makes the Store answer nothing until a caller's context ends, and then
// say so in its driver's own words.
func (h *faultyStore) hang() {
	end := func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("driver: the operation was cancelled")
	}
	h.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) { return nil, end(ctx) })
	h.onUpdate(func(ctx context.Context, _ updateFunc) error { return end(ctx) })
}

// storeDirectly stores a grant as another process would.
func storeDirectly(t *testing.T, store b24oauth.Store, key string, g *b24oauth.Grant) {
	t.Helper()
	err := store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil })
	if err != nil {
		t.Fatal(err)
	}
}

// purge takes the grant out of the Store, as if that had been emptied.
func purge(t *testing.T, s b24oauth.Store) {
	t.Helper()
	err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return nil, b24oauth.ErrDelete
	})
	if err != nil {
		t.Fatal(err)
	}
}

const leaseTime = 45 * time.Second

var errKilled = errors.New("this process was killed")

// sharedStore is what several processes share: a database with leases, whose
// writes are fenced by the value that an Update was given.
type sharedStore struct {
	mu     sync.Mutex // guards what follows, never held while anything waits
	grant  *b24oauth.Grant
	holder *lease // nil: nobody
}

// lease is the right to update, which runs out.
type lease struct {
	expiry time.Time
	lost   context.CancelFunc
}

// expireLease takes the lease from its holder, if there is one, as if that
// had stalled for longer than it lasts.
func (s *sharedStore) expireLease() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != nil {
		s.holder.expiry = time.Now()
		s.holder.lost()
	}
}

// acquire returns the lease with what is stored then, or nil while somebody
// else has it.
func (s *sharedStore) acquire(ctx context.Context) (context.Context, *lease, *b24oauth.Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != nil && time.Now().Before(s.holder.expiry) {
		return nil, nil, nil
	}
	l := &lease{expiry: time.Now().Add(leaseTime)}
	ctx, l.lost = context.WithDeadline(context.WithoutCancel(ctx), l.expiry)
	s.holder = l
	return ctx, l, copyGrant(s.grant)
}

func (s *sharedStore) release(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.lost()
	if s.holder == l {
		s.holder = nil
	}
}

func (s *sharedStore) save(given, g *b24oauth.Grant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grant.Fence() != given.Fence() {
		return b24oauth.ErrConflict
	}
	s.grant = copyGrant(g)
	return nil
}

func copyGrant(g *b24oauth.Grant) *b24oauth.Grant {
	if g == nil {
		return nil
	}
	c := *g
	return &c
}

// process is one process's way to a sharedStore.
type process struct {
	*sharedStore
	killed   chan struct{} // closed: it does nothing any more,
	released chan struct{} // until this is closed and all it does fails
}

func (s *sharedStore) process() *process {
	return &process{s, make(chan struct{}), make(chan struct{})}
}

// step is what a process does at each step: nothing if it is alive, and else
// it hangs until the end of the test.
func (p *process) step() error {
	select {
	case <-p.killed:
		<-p.released
		return errKilled
	default:
		return nil
	}
}

func (p *process) Load(context.Context, string) (*b24oauth.Grant, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grant == nil {
		return nil, b24oauth.ErrNoGrant
	}
	return copyGrant(p.grant), nil
}

func (p *process) Update(ctx context.Context, _ string, fn updateFunc) error {
	for {
		if err := p.step(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		fnCtx, l, given := p.acquire(ctx)
		if l == nil {
			select {
			case <-ctx.Done():
			case <-p.killed:
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		g, err := fn(fnCtx, given)
		if err := p.step(); err != nil {
			return err
		}
		defer p.release(l)
		switch {
		case errors.Is(err, b24oauth.ErrDelete):
			return p.save(given, nil)
		case err != nil || g == nil:
			return err
		}
		return p.save(given, g)
	}
}
