package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// end gives the lease back, or keeps it for the next Update here after a save
// that failed. It does not wait for Redis: each renewal would take a round trip
// longer, and a slow Redis would hold up a caller whose grant is saved.
func (s *Store) end(ctx context.Context, l *lease) {
	if l.unsaved {
		s.keepLease(l.name, l.owner)
		return
	}
	done := make(chan struct{})
	s.mu.Lock()
	if s.releasing == nil {
		s.releasing = make(map[string]chan struct{})
	}
	s.releasing[l.name] = done
	s.mu.Unlock()
	go func() {
		err := s.release(ctx, l.name, l.owner)
		s.mu.Lock()
		if s.releasing[l.name] == done { // else a later lease is being given back, this one had run out
			delete(s.releasing, l.name)
		}
		s.mu.Unlock()
		close(done)
		if err == nil {
			s.checkServer(ctx)
		} else {
			s.log(slog.LevelWarn, "b24oauth/redisstore: the lease on a grant could not be given back; others wait until it runs out",
				slog.String("name", l.name), slog.Duration("lease", s.lease()), slog.Any("error", err))
		}
	}()
}

// released waits until the lease on that name, if an Update here has just
// ended, has been given back. An Update that asked before that would find the
// lease taken, and poll.
func (s *Store) released(ctx context.Context, name string) error {
	s.mu.Lock()
	done := s.releasing[name]
	s.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Flush waits until the leases of all Updates that have returned are given
// back, or ctx ends: a program that ends before would make the next Update of
// the same key wait for the rest of the lease. [b24oauth.Config.Flush] calls it.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	names := slices.Collect(maps.Keys(s.releasing))
	s.mu.Unlock()
	for _, name := range names {
		if err := s.released(ctx, name); err != nil {
			return fmt.Errorf("b24oauth/redisstore: leases that are not given back yet make others wait until they run out: %w", err)
		}
	}
	return nil
}

// release gives the lease back, if owner has it.
func (s *Store) release(ctx context.Context, name, owner string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseBudget)
	defer cancel()
	_, err := bounded(ctx, func() (any, error) { return s.run(ctx, releaseScript, name, owner).Result() })
	return err
}

// keepLease remembers the owner of a lease that was not given back. reclaim
// returns it, once, or else a new one.
func (s *Store) keepLease(name, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make(map[string]string)
	}
	s.kept[name] = owner
}

func (s *Store) reclaim(name string) (owner string, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, kept = s.kept[name]
	if !kept {
		return rand.Text(), false
	}
	delete(s.kept, name)
	return owner, true
}
