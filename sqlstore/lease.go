package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/b24go/b24oauth"
)

// lease is the right to update one grant, or the attempt to get it.
//
// Who holds a grant is its row's owner, as long as lease_until lies ahead on
// the database's clock. A key without a grant gets a row without one, whose
// nonce is empty, for as long as it is held. So the nonce stands for the value
// that fn is given, no grant included, and an owner that is still there when
// its lease has run out stands for an Update that never ended.
type lease struct {
	s     *Store
	id    identity
	owner string // random, the same in each try
	asked bool   // the database may have given the lease without our hearing it

	given     *b24oauth.Grant
	nonce     string    // of given; empty if that is nil
	inherited bool      // the holder before never ended
	ends      time.Time // by this machine's monotonic clock, not later than in the database
}

// take waits until it has the lease. One that this Store kept, because it
// could not save what was fetched under it, is gone on with at once.
func (s *Store) take(ctx context.Context, id identity) (*lease, error) {
	l := &lease{s: s, id: id, owner: rand.Text()}
	kept, reclaimed := s.kept.LoadAndDelete(id.key)
	if reclaimed {
		l.owner, l.inherited = kept.(string), true
	}
	if err := s.wait(ctx, l.try); err != nil {
		switch {
		case reclaimed:
			s.kept.Store(id.key, l.owner)
		case l.asked:
			l.release(ctx)
		}
		return nil, fmt.Errorf("b24oauth/sqlstore: no exclusivity for %q: %w", id.key, err)
	}
	return l, nil
}

// row is what a look finds.
type row struct {
	absent bool // all the rest is zero then
	nonce  string
	owner  string
	ended  int // 1 if the owner's lease has run out
	data   []byte
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
	r, err := l.look(ctx)
	switch {
	case err != nil:
		return false, err
	case r.owner != "" && r.owner != l.owner && r.ended == 0:
		return false, nil
	}
	l.nonce, l.given = r.nonce, nil
	if r.nonce != "" {
		if l.given, err = decode(l.id.key, r.data); err != nil {
			return false, err
		}
	}
	// If it is ours already, because the answer to a try was lost, it is as
	// that try found it.
	if r.owner != l.owner {
		l.inherited = r.owner != ""
	}

	// Counted from before the statement is sent; the database counts from
	// when it arrived, or later.
	s := l.s
	l.ends = time.Now().Add(s.lease())
	later := dialects[s.dialect].lease(s.lease())
	var taken bool
	if r.absent {
		taken, err = changed(ctx, s.db, s.sql.place, l.id.hash, l.id.readable, l.owner, later)
	} else {
		taken, err = changed(ctx, s.db, s.sql.take, l.owner, later, l.id.hash, r.nonce, r.owner, l.owner)
	}
	l.asked = l.asked || err != nil
	return taken, err
}

func (l *lease) look(ctx context.Context) (r row, err error) {
	err = l.s.db.QueryRowContext(ctx, l.s.sql.read, l.id.hash).Scan(&r.nonce, &r.owner, &r.ended, &r.data)
	if errors.Is(err, sql.ErrNoRows) {
		return row{absent: true}, nil
	}
	return r, err
}

// release gives the lease back, if it is still ours. It does what it can: a
// lease that stays runs out.
func (l *lease) release(ctx context.Context) {
	s := l.s
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseBudget)
	defer cancel()
	s.wait(ctx, func(ctx context.Context) (bool, error) {
		if l.nonce == "" {
			// The row was there for the lease alone, unless a late save
			// has put a grant into it.
			if gone, err := changed(ctx, s.db, s.sql.unplace, l.id.hash, l.owner); gone || err != nil {
				return gone, err
			}
		}
		_, err := changed(ctx, s.db, s.sql.release, l.id.hash, l.owner)
		return true, err
	})
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
