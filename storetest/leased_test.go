package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
)

// leasing is how a leased Store breaks the contract; the zero value does not.
type leasing struct {
	lasts         time.Duration     // 0: 45 s
	noDeadline    bool              // fn's context does not end with the lease
	dropsLate     bool              // a late save is lost
	overwrites    bool              // a late save is stored, whatever is there by now
	takesVerdict  bool              // a late verdict is stored, whatever is there by now
	inserts       bool              // a late save brings a purged grant back
	upserts       bool              // a late save replaces what was stored after fn was given nil
	tellsTakeOver bool              // an Update that took over says so beside fn's error
	noShortLease  bool              // the Store is no ShortLeaser
	fence         func(*row) string // instead of the grant's own
}

// leasedPlace is what leased Stores share, as they would a database.
type leasedPlace struct {
	how    leasing
	mu     sync.Mutex // guards the rest
	rows   map[string]*row
	owners int
}

type row struct {
	grant  *b24oauth.Grant
	writes int
	owner  int // 0: nobody
	expiry time.Time
}

type leased struct {
	place *leasedPlace
	lasts time.Duration
}

func openLeased(how leasing) func() b24oauth.Store {
	p := &leasedPlace{how: how, rows: make(map[string]*row)}
	return func() b24oauth.Store {
		s := &leased{place: p, lasts: cmp.Or(how.lasts, 45*time.Second)}
		if how.noShortLease {
			return struct{ b24oauth.Store }{s}
		}
		return s
	}
}

func (s *leased) ShortLease(d time.Duration) b24oauth.Store {
	return &leased{place: s.place, lasts: d}
}

func copyGrant(g *b24oauth.Grant) *b24oauth.Grant {
	if g == nil {
		return nil
	}
	c := *g
	c.FormerHosts = slices.Clone(g.FormerHosts)
	c.Lineage.Former = slices.Clone(g.Lineage.Former)
	return &c
}

func (s *leased) Load(_ context.Context, key string) (*b24oauth.Grant, error) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if r := s.place.rows[key]; r != nil && r.grant != nil {
		return copyGrant(r.grant), nil
	}
	return nil, fmt.Errorf("%w under %q", b24oauth.ErrNoGrant, key)
}

// take takes the lease, if it is free, for the owner that it returns.
func (s *leased) take(key string) (r row, tookOver, ok bool) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	p := s.place.rows[key]
	if p == nil {
		p = new(row)
		s.place.rows[key] = p
	}
	if p.owner != 0 && time.Now().Before(p.expiry) {
		return row{}, false, false
	}
	tookOver = p.owner != 0
	s.place.owners++
	p.owner, p.expiry = s.place.owners, time.Now().Add(s.lasts)
	return *p, tookOver, true
}

func (s *leased) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	given, tookOver, ok := row{}, false, false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if given, tookOver, ok = s.take(key); ok {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	defer s.giveBack(key, given.owner)
	fnCtx := context.WithoutCancel(ctx)
	if !s.place.how.noDeadline {
		var cancel context.CancelFunc
		fnCtx, cancel = context.WithDeadline(fnCtx, given.expiry)
		defer cancel()
	}
	g, err := fn(fnCtx, copyGrant(given.grant))
	if errors.Is(err, b24oauth.ErrDelete) {
		return s.save(key, given, nil)
	}
	if err != nil && tookOver && s.place.how.tellsTakeOver {
		return fmt.Errorf("%w (%w)", err, b24oauth.ErrConflict)
	}
	if err != nil || g == nil {
		return err
	}
	return s.save(key, given, g)
}

func (s *leased) save(key string, given row, g *b24oauth.Grant) error {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	r, how := s.place.rows[key], s.place.how
	late := !time.Now().Before(given.expiry)
	if late && how.dropsLate {
		return b24oauth.ErrConflict
	}
	fence := how.fence
	if fence == nil {
		fence = func(r *row) string { return r.grant.Fence() }
	}
	allowed := how.overwrites || how.inserts && r.grant == nil || how.upserts && given.grant == nil ||
		how.takesVerdict && g != nil && g.Refused.Code != ""
	if fence(r) != fence(&given) && !allowed {
		return b24oauth.ErrConflict
	}
	r.grant = copyGrant(g)
	r.writes++
	return nil
}

func (s *leased) giveBack(key string, owner int) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if r := s.place.rows[key]; r.owner == owner {
		r.owner = 0
	}
}
