package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"time"

	"github.com/b24go/b24oauth"
)

const (
	firstPoll = 50 * time.Millisecond
	lastPoll  = time.Second
)

// lease is the right to update one grant, and what was stored when it was
// taken.
type lease struct {
	name, owner string
	until       time.Time // by this machine's clock, never later than by Redis'

	found       bool // whether there was a grant
	form, fence string

	unsaved bool // what fn returned could not be saved, and exists only here
}

func (s *Store) lease() time.Duration {
	if s.Lease <= 0 {
		return defaultLease
	}
	return s.Lease
}

// remembered is how long a hash without a grant stays: longer than a lease in
// it, or than the purge that left it may be repeated, and not for ever.
func (s *Store) remembered() time.Duration { return s.lease() + time.Minute }

// milliseconds rounds up: Redis must not promise less than this side does.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// acquire waits for the lease on the grant of that name until ctx ends.
func (s *Store) acquire(ctx context.Context, name string) (*lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.failed("waiting for the grant", err)
	}
	if err := s.released(ctx, name); err != nil {
		return nil, s.failed("waiting for the grant", err)
	}
	owner, kept := s.reclaim(name)
	l, err := s.take(ctx, name, owner)
	if l == nil && err == nil {
		l, err = s.wait(ctx, name, owner)
	}
	switch {
	case err == nil:
		return l, nil
	case kept:
		s.keepLease(name, owner)
	default:
		// Redis may have given the lease and the answer may be lost.
		// Nobody should wait for that, neither here nor elsewhere.
		go s.release(ctx, name, owner)
	}
	return nil, s.failed("waiting for the grant", err)
}

// wait asks for the lease again and again. A message that it has been given
// back shortens the wait; one that never arrives costs at most the interval.
func (s *Store) wait(ctx context.Context, name, owner string) (*lease, error) {
	given, leave := s.waiters.join(name)
	defer leave()
	for interval := firstPoll; ; interval = min(2*interval, lastPoll) {
		// Up to a quarter less, so that those who wait do not ask in step.
		if sleep(ctx, interval-mathrand.N(interval/4), given) {
			// All have been woken, one can have it. Who comes a little
			// later may find it free again, and need not be woken
			// once more for that.
			sleep(ctx, mathrand.N(interval/4), nil)
			select {
			case <-given:
			default:
			}
		}
		if l, err := s.take(ctx, name, owner); l != nil || err != nil {
			return l, err
		}
	}
}

// sleep waits for d, or until ctx ends or, which it reports, woken yields.
func sleep(ctx context.Context, d time.Duration, woken <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-woken:
		return true
	}
	return false
}

// take asks for the lease once; it returns neither lease nor error if another
// owner has it. If the answer took so long that much of the lease has passed,
// it asks once more, which begins the lease anew.
func (s *Store) take(ctx context.Context, name, owner string) (*lease, error) {
	l, err := bounded(ctx, func() (*lease, error) { return s.ask(ctx, name, owner) })
	if l != nil && time.Until(l.until) < s.lease()*9/10 {
		l, err = bounded(ctx, func() (*lease, error) { return s.ask(ctx, name, owner) })
	}
	return l, err
}

// ask runs the script that takes the lease. If Redis calls it late although
// ctx has not ended, the reading of its clock was of no use, and ask asks once
// more with the one that came with this answer.
func (s *Store) ask(ctx context.Context, name, owner string) (*lease, error) {
	select {
	case s.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.asking }()
	clock := s.clock.Load()
	for range 2 {
		sent := time.Now()
		reply, err := s.run(ctx, takeScript, name, owner, milliseconds(s.lease()), milliseconds(s.remembered()), clock.end(ctx)).Slice()
		if err != nil {
			return nil, err
		}
		if len(reply) < 2 {
			return nil, fmt.Errorf("the script answered %d values instead of 2 or 4", len(reply))
		}
		clock = &reading{here: time.Now()}
		clock.redis, _ = reply[0].(int64)
		s.clock.Store(clock)
		switch {
		case reply[1] == "taken" && len(reply) == 4:
			l := &lease{name: name, owner: owner, until: sent.Add(s.lease())}
			l.form, l.found = reply[2].(string)
			l.fence, _ = reply[3].(string)
			return l, nil
		case reply[1] != "late" || ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// save stores g, or purges if that is nil. It runs on time of its own:
// whoever waited for Update may have gone, the new pair is there all the
// same.
func (s *Store) save(ctx context.Context, l *lease, g *b24oauth.Grant) error {
	found := 0
	if l.found {
		found = 1
	}
	args := []any{found, l.fence, rand.Text()[:13], milliseconds(s.remembered())}
	if g != nil {
		fields, err := hashFields(g)
		if err != nil {
			return err
		}
		args = append(args, fields...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveBudget)
	defer cancel()
	stored, err := bounded(ctx, func() (bool, error) { return s.run(ctx, saveScript, l.name, args...).Bool() })
	switch {
	case err != nil:
		return s.failed("the grant cannot be saved", err)
	case !stored:
		return fmt.Errorf("%w: %s", b24oauth.ErrConflict, l.name)
	}
	return nil
}

// hashFields are the fields of the hash that tell of g.
func hashFields(g *b24oauth.Grant) ([]any, error) {
	form, err := g.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("b24oauth/redisstore: %w", err)
	}
	domain, expiry := "", ""
	if u, err := url.Parse(g.ClientEndpoint); err == nil {
		domain = u.Host
	}
	if !g.Expiry.IsZero() {
		expiry = g.Expiry.UTC().Format(time.RFC3339)
	}
	return []any{
		"grant", form,
		"nonce", g.Fence(),
		"member_id", g.MemberID,
		"domain", domain,
		"expiry", expiry,
		"updated_at", time.Now().UTC().Format(time.RFC3339),
	}, nil
}
