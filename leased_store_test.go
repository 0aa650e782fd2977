package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
)

// updateFunc is what Store.Update calls.
type updateFunc = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)

const (
	testLease = 30 * time.Second
	saveTime  = 10 * time.Second // what a Store may take to save
)

var (
	errDown   = errors.New("the database is down")
	errKilled = errors.New("this process was killed")
)

// place is what several processes share: a database with leases, whose writes
// are fenced by a nonce.
type place struct {
	mu      sync.Mutex // guards what follows, never held while anything waits
	grant   *b24oauth.Grant
	nonce   int
	since   time.Time // of the last change
	holder  *lease    // nil: nobody
	reports []string  // what written complained of
	written func(by *process, before, after *b24oauth.Grant) string
}

// lease is the right to update, which runs out.
type lease struct {
	by     *process
	expiry time.Time
	lost   context.CancelFunc
}

// expireLease takes the lease from its holder, if there is one, as if that
// had stalled for longer than it lasts.
func (p *place) expireLease() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder != nil {
		p.holder.expiry = time.Now()
		if p.holder.lost != nil {
			p.holder.lost()
		}
	}
}

// stored returns the grant and since when it is there.
func (p *place) stored() (*b24oauth.Grant, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return copyGrant(p.grant), p.since
}

func copyGrant(g *b24oauth.Grant) *b24oauth.Grant {
	if g == nil {
		return nil
	}
	c := *g
	return &c
}

// process is one process's Store on a place, and what befalls the process.
type process struct {
	*place
	name     string
	started  time.Time
	killed   chan struct{} // closed: it does nothing any more,
	released chan struct{} // until this is closed and all it does fails

	mu        sync.Mutex // guards what follows
	failLoads int
	failSaves int
	lostAcks  int  // saves that succeed and say that they failed
	reenters  bool // a lease kept after a failed save is its own to go on with
}

func (p *place) process(name string, released chan struct{}) *process {
	return &process{place: p, name: name, started: time.Now(), killed: make(chan struct{}), released: released}
}

func (s *process) alive() bool {
	select {
	case <-s.killed:
		return false
	default:
		return true
	}
}

// step is what a process does at each step: nothing if it is alive, and else
// it hangs until the end of the test.
func (s *process) step() error {
	if s.alive() {
		return nil
	}
	<-s.released
	return errKilled
}

func (s *process) take(n *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n--
	return *n >= 0
}

func (s *process) Load(context.Context, string) (*b24oauth.Grant, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	if s.take(&s.failLoads) {
		return nil, errDown
	}
	if g, _ := s.stored(); g != nil {
		return g, nil
	}
	return nil, b24oauth.ErrNoGrant
}

func (s *process) Update(ctx context.Context, _ string, fn updateFunc) error {
	if err := s.step(); err != nil {
		return err
	}
	if s.take(&s.failLoads) {
		return errDown
	}
	var l *lease
	var given *b24oauth.Grant
	var nonce int
	var tookOver bool
	for l == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l, given, nonce, tookOver = s.acquire(); l != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-s.killed:
		case <-time.After(50 * time.Millisecond):
		}
		if err := s.step(); err != nil {
			return err
		}
	}
	s.place.mu.Lock()
	fnCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), l.expiry)
	l.lost = cancel
	s.place.mu.Unlock()
	defer cancel()

	g, err := fn(fnCtx, given)
	if err := s.step(); err != nil {
		return err
	}
	switch {
	case errors.Is(err, b24oauth.ErrDelete):
		return s.save(l, nonce, nil)
	case err != nil || g == nil:
		s.release(l)
		if err != nil && tookOver {
			err = fmt.Errorf("%w (%w)", err, b24oauth.ErrConflict)
		}
		return err
	}
	return s.save(l, nonce, copyGrant(g))
}

func (s *process) acquire() (l *lease, given *b24oauth.Grant, nonce int, tookOver bool) {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.holder
	own := held != nil && s.reenters && held.by == s && held.lost == nil
	if held != nil && !own && time.Now().Before(held.expiry) {
		return nil, nil, 0, false
	}
	tookOver = held != nil && !own
	p.holder = &lease{by: s, expiry: time.Now().Add(testLease), lost: func() {}}
	return p.holder, copyGrant(p.grant), p.nonce, tookOver
}

func (s *process) release(l *lease) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if s.holder == l {
		s.holder = nil
	}
}

// save keeps the lease if it fails, so that nobody exchanges the old refresh
// token while the new one is in memory only.
func (s *process) save(l *lease, nonce int, g *b24oauth.Grant) error {
	if s.take(&s.failSaves) {
		s.place.mu.Lock()
		defer s.place.mu.Unlock()
		l.lost = nil // fn has ended
		return errDown
	}
	defer s.release(l)
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nonce != nonce {
		return b24oauth.ErrConflict
	}
	if p.written != nil {
		if complaint := p.written(s, p.grant, g); complaint != "" {
			p.reports = append(p.reports, complaint)
		}
	}
	p.grant, p.since = g, time.Now()
	p.nonce++
	if s.take(&s.lostAcks) {
		return errDown
	}
	return nil
}
