package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// lease is the right to update one grant, or the attempt to get it.
//
// Who holds a grant is its row's owner, as long as lease_until lies ahead on
// the database's clock. A key without a grant gets a row without one, whose
// fence is empty, for as long as it is held. So the fence stands for the value
// that fn is given, no grant included.
type lease struct {
	s     *Store
	id    identity
	owner string // random, the same in each try
	asked bool   // the database may have given the lease without our hearing it

	given *b24oauth.Grant
	fence string    // as it was read with given; empty if that is nil
	ends  time.Time // by this machine's monotonic clock, not later than in the database
}

// take waits until it has the lease. One that this Store kept, because it
// could not save what was fetched under it, is gone on with at once.
func (s *Store) take(ctx context.Context, id identity) (*lease, error) {
	l := &lease{s: s, id: id, owner: rand.Text()}
	kept, reclaimed := s.kept.LoadAndDelete(id.key)
	if reclaimed {
		l.owner = kept.(string)
	}
	err := s.released(ctx, id.key)
	if err == nil {
		err = s.wait(ctx, l.try)
	}
	switch {
	case err == nil:
		return l, nil
	case reclaimed:
		s.kept.Store(id.key, l.owner)
	case l.asked:
		l.release(ctx)
	}
	return nil, fmt.Errorf("b24oauth/sqlstore: no exclusivity for %q: %w", id.key, err)
}

// row is what a look finds.
type row struct {
	clock   int64 // of the database, in microseconds
	commits bool  // the connection is in autocommit mode
	fence   string
	owner   string
	version int64 // -1: there is no row
	ended   bool  // the owner's lease has run out
	data    []byte
}

// try takes the lease if it is free, and returns false if somebody has it or
// was faster.
func (l *lease) try(ctx context.Context) (bool, error) {
	select {
	case l.s.asking <- struct{}{}:
		defer func() { <-l.s.asking }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	s := l.s
	var r row
	err := s.db.QueryRowContext(ctx, s.sql.read, l.id.hash).Scan(&r.clock, &r.commits, &r.fence, &r.owner, &r.version, &r.ended, &r.data)
	switch {
	case err != nil:
		return false, err
	case !r.commits:
		return false, errUncommitted
	case r.owner != "" && r.owner != l.owner && !r.ended:
		return false, nil
	}
	l.fence, l.given = r.fence, nil
	if r.fence != "" {
		if l.given, err = decode(l.id.key, r.data); err != nil {
			return false, err
		}
	}

	taken, err := l.claim(ctx, &r)
	if taken && err == nil {
		err = ctx.Err()
	}
	l.asked = l.asked || err != nil
	return taken, err
}

// claim takes the lease if the row is still r, or still missing.
//
// A request that the database carries out after its asker has gone would give
// the grant to nobody, for a whole lease. So it is void once ctx has ended, by
// the database's clock. That one showed r.clock before now, so that the request
// is void too early by the way of an answer at most, which would not have
// arrived in time either.
func (l *lease) claim(ctx context.Context, r *row) (taken bool, err error) {
	s := l.s
	void := int64(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		void = r.clock + time.Until(deadline).Microseconds()
	}
	// Counted from before the statement is sent; the database counts from
	// when it arrived, or later.
	l.ends = time.Now().Add(s.lease())
	later := dialects[s.dialect].lease(s.lease())
	update := func() (bool, error) {
		return changed(ctx, s.db, s.sql.take, l.owner, later, l.id.hash, r.fence, r.version, r.owner, l.owner, void)
	}
	proven := s.proven.Load()
	if !proven {
		err = s.hasRoom(ctx)
	}
	if !proven && err == nil && r.version < 0 {
		// The right to insert a row says nothing of the right to change it, for
		// which the database asks even if there is no row to be changed.
		_, err = update()
	}
	switch {
	case err != nil:
		return false, err
	case r.version < 0:
		taken, err = changed(ctx, s.db, s.sql.place, l.id.hash, l.id.readable, l.owner, void, later)
	default:
		taken, err = update()
	}
	if err == nil {
		s.proven.Store(true)
	}
	return taken, err
}

// hasRoom tells of a table, made by hand, whose column is too narrow for every
// grant: MySQL cuts off what does not fit, unless its mode is strict, and calls
// the grant saved.
func (s *Store) hasRoom(ctx context.Context) error {
	if s.sql.room == "" {
		return nil
	}
	var bytes sql.NullInt64
	err := s.db.QueryRowContext(ctx, s.sql.room).Scan(&bytes)
	if err == nil && bytes.Valid && bytes.Int64 < roomForGrants {
		return setup.Wrong(fmt.Errorf("b24oauth/sqlstore: the column grant_data of %s holds %d bytes, which a grant can exceed: make it a MEDIUMBLOB, as in the package's documentation", s.table(), bytes.Int64))
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil // not even the name of the column is ours to see
	}
	return err
}

// release gives the lease back, if it is still ours. A database that is slow
// to answer is waited for by nobody but the next Update of the key through
// this Store, which would have to ask twice otherwise. A lease that stays runs
// out.
func (l *lease) release(ctx context.Context) {
	s := l.s
	done := make(chan struct{})
	s.releases.Store(l.id.key, done)
	give := func() {
		defer close(done)
		defer s.releases.CompareAndDelete(l.id.key, done)
		s.persist(ctx, releaseBudget, l.giveBack)
	}
	select {
	case s.releasing <- struct{}{}:
		go func() {
			defer func() { <-s.releasing }()
			give()
		}()
	default:
		give()
	}
	timer := time.NewTimer(releaseGrace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func (l *lease) giveBack(ctx context.Context, c *attempt) (bool, error) {
	s := l.s
	if l.fence == "" {
		// The row was there for the lease alone, unless a late save has put a
		// grant into it.
		if gone, err := changed(ctx, c, s.sql.unplace+c.mark, l.id.hash, l.owner); gone || err != nil {
			return gone, err
		}
	}
	_, err := changed(ctx, c, s.sql.release+c.mark, l.id.hash, l.owner)
	return err == nil, err
}

// Flush waits until the leases of all Updates that have returned are given back,
// or ctx ends: a program that ends before would make the next Update of the same
// key wait for the rest of the lease. [b24oauth.Config.Flush] calls it.
func (s *Store) Flush(ctx context.Context) error {
	var err error
	s.releases.Range(func(key, _ any) bool {
		err = s.released(ctx, key.(string))
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("b24oauth/sqlstore: leases that are not given back yet make others wait until they run out: %w", err)
	}
	return nil
}

// released waits until no Update of the key through this Store is giving its
// lease back.
func (s *Store) released(ctx context.Context, key string) error {
	done, ok := s.releases.Load(key)
	if !ok {
		return nil
	}
	select {
	case <-done.(chan struct{}):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changed runs a statement that changes one row, or none, and reports which.
func changed(ctx context.Context, db execer, statement string, args ...any) (bool, error) {
	res, err := db.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}
