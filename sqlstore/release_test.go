package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

// scripted is a database in which nobody holds the grant that it returns, at
// the time clock. exec is what it does to change it.
type scripted struct {
	exec func(ctx context.Context, statement string, args []driver.NamedValue) error
}

const clock = int64(1_700_000_000_000_000)

func (s scripted) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s scripted) Driver() driver.Driver                        { return nil }
func (s scripted) Close() error                                 { return nil }
func (s scripted) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (s scripted) Begin() (driver.Tx, error)                    { return nil, errors.ErrUnsupported }

func (s scripted) ExecContext(ctx context.Context, statement string, args []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), s.exec(ctx, statement, args)
}

func (s scripted) QueryContext(_ context.Context, statement string, _ []driver.NamedValue) (driver.Rows, error) {
	if strings.Contains(statement, "information_schema") {
		return &oneRow{int64(roomForGrants)}, nil
	}
	g := &b24oauth.Grant{RefreshToken: "refresh"}
	data, err := g.MarshalBinary()
	return &oneRow{clock, int64(1), g.Fence(), "", int64(1), int64(0), data}, err
}

// oneRow is nil when it has been read.
type oneRow []driver.Value

func (r *oneRow) Columns() []string { return make([]string, len(*r)) }
func (*oneRow) Close() error        { return nil }
func (r *oneRow) Next(into []driver.Value) error {
	if *r == nil {
		return io.EOF
	}
	copy(into, *r)
	*r = nil
	return nil
}

func isRelease(statement string) bool { return strings.Contains(statement, "SET owner = ''") }

// open returns a Store in a database that answers a release when answered is
// closed. It counts those that are not answered. The bubble of the test
// deadlocks if one outlives its budget.
func open(t *testing.T, answered <-chan struct{}, waiting *atomic.Int32) *Store {
	db := sql.OpenDB(scripted{func(ctx context.Context, statement string, _ []driver.NamedValue) error {
		if !isRelease(statement) {
			return nil
		}
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-answered:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	closeInTheEnd(t, db)
	return New(db, MySQL)
}

// closeInTheEnd closes db once nothing is given back any more, which the pause
// of a try that failed may outlive else.
func closeInTheEnd(t *testing.T, db *sql.DB) {
	t.Cleanup(func() {
		time.Sleep(releaseBudget)
		db.Close()
	})
}

func nothing(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil }

// update runs an Update and returns how long it took.
func update(t *testing.T, s *Store, key string) time.Duration {
	t.Helper()
	begun := time.Now()
	if err := s.Update(t.Context(), key, nothing); err != nil {
		t.Errorf("Update = %v", err)
	}
	return time.Since(begun)
}

func TestASlowReleaseIsWaitedForByTheNextUpdateOfTheKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan struct{})
		s := open(t, answered, new(atomic.Int32))
		for _, key := range []string{"key", "another key"} {
			if d := update(t, s, key); d != releaseGrace {
				t.Errorf("the Update of %s takes %v; want it to wait for its lease to be given back for %v", key, d, releaseGrace)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Update(ctx, "key", nothing); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update = %v; want it to end with ctx while the lease is given back", err)
		}
		time.AfterFunc(time.Second, func() { close(answered) })
		if d := update(t, s, "key"); d != time.Second {
			t.Errorf("the next Update takes %v; want the 1 s until the lease is given back, and no pause", d)
		}
		if d := update(t, s, "key"); d != 0 {
			t.Errorf("the Update after it takes %v; want nothing to wait for", d)
		}
	})
}

func TestFlushWaitsUntilLeasesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan struct{})
		s := open(t, answered, new(atomic.Int32))
		if err := s.Flush(t.Context()); err != nil {
			t.Errorf("Flush with nothing to wait for = %v", err)
		}
		update(t, s, "key")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush = %v; want it to end with ctx while a lease is given back", err)
		}
		time.AfterFunc(time.Second, func() { close(answered) })
		begun := time.Now()
		if err := s.Flush(t.Context()); err != nil || time.Since(begun) != time.Second {
			t.Errorf("Flush = %v after %v; want the 1 s until the lease is given back", err, time.Since(begun))
		}
	})
}

// One Update after the other, since database/sql can have one wait for the
// connection of another at a mutex, which the bubble does not see through.
func TestASilentDatabaseHoldsFewReleasesForTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int32
		s := open(t, nil, &waiting)
		s.releasing = make(chan struct{}, 3)
		for i := range cap(s.releasing) {
			if d := update(t, s, fmt.Sprint("key ", i)); d != releaseGrace {
				t.Errorf("Update %d takes %v; want %v", i, d, releaseGrace)
			}
		}
		if n := int(waiting.Load()); n != cap(s.releasing) {
			t.Errorf("%d releases wait; want %d", n, cap(s.releasing))
		}
		if d := update(t, s, "one too many"); d != releaseBudget {
			t.Errorf("one Update more takes %v; want it to give its lease back itself for %v", d, releaseBudget)
		}
		synctest.Wait()
		if n := waiting.Load(); n != 0 {
			t.Errorf("%d releases wait after %v", n, releaseBudget)
		}
		s.releases.Range(func(key, _ any) bool {
			t.Errorf("%s is remembered", key)
			return true
		})
	})
}

func TestAClosedDatabaseEndsAReleaseQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil, new(atomic.Int32))
		update(t, s, "key")
		s.db.Close()
	})
}

func TestATakeIsVoidWhenItsAskerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var void any
		db := sql.OpenDB(scripted{func(_ context.Context, statement string, args []driver.NamedValue) error {
			if !isRelease(statement) {
				void = args[len(args)-1].Value
			}
			return nil
		}})
		closeInTheEnd(t, db)
		s := New(db, MySQL)
		update(t, s, "key")
		if want := int64(math.MaxInt64); void != want {
			t.Errorf("without a deadline the take is void at %v; want %d", void, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Update(ctx, "key", nothing); err != nil {
			t.Error(err)
		}
		if want := clock + 5_000_000; void != want {
			t.Errorf("with 5 s left the take is void at %v; want %d, by the database's clock", void, want)
		}
	})
}
