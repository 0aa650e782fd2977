package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// failuresInARow is how often a try may fail for what is not known to be
// somebody else's lock, such as a connection, before the caller is told. A
// database that is down is not waited for.
const failuresInARow = 3

// wait repeats try until it succeeds, with growing pauses, bounded by ctx.
func (s *Store) wait(ctx context.Context, try func(context.Context) (bool, error)) error {
	var p pause
	failures := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := try(ctx)
		err = s.explained(err)
		switch {
		case err == nil && done:
			return nil
		case err == nil, s.dialect.busy(err):
			failures = 0
		default:
			failures++
		}
		if ctx.Err() == nil && (s.dialect.lasting(err) || failures == failuresInARow) {
			return err
		}
		if !p.sleep(ctx) {
			return ended(ctx, err)
		}
	}
}

// ended returns the error of a ctx that ended while err was in the way.
func ended(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return fmt.Errorf("%w; the last try: %w", ctx.Err(), err)
}

// pause is the time between two looks at the database: 50 ms, growing to 1 s,
// give or take a half so that those who wait for the same thing part.
type pause struct{ next time.Duration }

// sleep returns false if ctx ends first.
func (p *pause) sleep(ctx context.Context) bool {
	p.next = min(max(2*p.next, 50*time.Millisecond), time.Second)
	t := time.NewTimer(p.next/2 + rand.N(p.next))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
