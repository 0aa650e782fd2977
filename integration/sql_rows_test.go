package integration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
	"github.com/google/go-cmp/cmp"
)

// byHand runs a statement as a person would, in which {table} is the table.
func (d database) byHand(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(strings.ReplaceAll(statement, "{table}", d.Table)); err != nil {
		t.Fatal(err)
	}
}

func TestAPersonCanReadTheRow(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		db := d.pool(t)
		s := d.on(db)
		g := numbered(1)
		g.MemberID = "0a1b2c"
		g.Expiry = time.Date(2026, 10, 25, 2, 30, 0, 0, time.FixedZone("", 5*60*60))
		for range 2 {
			if err := s.Update(t.Context(), "\u041f\u043e\u0440\u0442\u0430\u043b/1 100%\x00\xff", returning(g, nil)); err != nil {
				t.Fatal(err)
			}
		}
		type columns struct{ Key, Member, Domain, Expiry, Fence, Owner, Recent, Version string }
		var got columns
		text := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "CAST(%s AT TIME ZONE 'UTC' AS TEXT)", sqlstore.MySQL: "CAST(%s AS CHAR)", sqlstore.SQLite: "%s"}[d.Dialect]
		recent := map[sqlstore.Dialect]string{
			sqlstore.PostgreSQL: "updated_at > now() - interval '1 minute' AND updated_at <= now()",
			sqlstore.MySQL:      "updated_at > utc_timestamp() - interval 1 minute AND updated_at <= utc_timestamp(6)",
			sqlstore.SQLite:     "updated_at > datetime('now', '-1 minute') AND updated_at <= strftime('%Y-%m-%d %H:%M:%f', 'now')",
		}[d.Dialect]
		d.one(t, db, "grant_key, member_id, domain, "+strings.Replace(text, "%s", "expiry", 1)+", nonce, owner, CASE WHEN "+recent+" THEN 'yes' ELSE 'no' END, version",
			&got.Key, &got.Member, &got.Domain, &got.Expiry, &got.Fence, &got.Owner, &got.Recent, &got.Version)
		got.Expiry, _, _ = strings.Cut(got.Expiry, ".")
		want := columns{"\u041f\u043e\u0440\u0442\u0430\u043b/1 100%25%00%ff", "0a1b2c", "example.bitrix24.com", "2026-10-24 21:30:00", g.Fence(), "", "yes", "2"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the row differs (-want +got):\n%s", diff)
		}
	})
}

// What a person is told about a grant must not keep it from being stored.
func TestNoGrantIsTooOddForItsColumns(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.on(d.pool(t))
		for _, g := range []*b24oauth.Grant{
			{AccessToken: "a", MemberID: strings.Repeat("\u0436", 1000), ClientEndpoint: "https://" + strings.Repeat("x", 1000) + "/"},
			{AccessToken: "a", MemberID: "\x00\u2028%", ClientEndpoint: "::\x00"},
			{AccessToken: "a", Expiry: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)},
			{AccessToken: "a", Expiry: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)},
		} {
			if err := s.Update(t.Context(), theKey, returning(g, nil)); err != nil {
				t.Errorf("Update = %v", err)
				continue
			}
			got, err := s.Load(t.Context(), theKey)
			if diff := cmp.Diff(g, got); err != nil || diff != "" {
				t.Errorf("Load = %v; (-stored +loaded):\n%s", err, diff)
			}
		}
		err := s.Update(t.Context(), theKey, returning(&b24oauth.Grant{MemberID: "no token"}, nil))
		if err == nil {
			t.Error("a grant that could not be read again is stored")
		}
	})
}

func TestASaveDoesNotBringBackARowDeletedByHand(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		db := d.pool(t)
		s := d.on(db)
		for _, change := range []struct {
			name string
			ret  error
		}{{"save", nil}, {"removal", b24oauth.ErrDelete}} {
			put(t, s, theKey, 1)
			err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				d.byHand(t, db, "DELETE FROM {table}")
				return numbered(2), change.ret
			})
			if !errors.Is(err, b24oauth.ErrConflict) {
				t.Errorf("%s = %v; want ErrConflict", change.name, err)
			}
			if n := number(t, s, theKey); n != 0 {
				t.Errorf("grant %d is stored; want none: fn was given one", n)
			}
		}
	})
}

// Rows had a nonce, random with each save, where they have a fence.
func TestARowWithANonceIsReadAndReplaced(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		db := d.pool(t)
		s, other := d.on(db), d.on(d.pool(t))
		late := d.on(db)
		late.Lease = 100 * time.Millisecond
		put(t, s, theKey, 1)
		d.byHand(t, db, "UPDATE {table} SET nonce = 'NBSWY3DPEB3W64TMMQQHK3TEMV'")
		if n := number(t, s, theKey); n != 1 {
			t.Errorf("grant %d is loaded; want 1", n)
		}
		for key, err := range s.Keys(t.Context()) {
			if key != theKey || err != nil {
				t.Errorf("Keys yields %q, %v", key, err)
			}
		}
		err := late.Update(t.Context(), theKey, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g == nil || g.UserID != 1 {
				t.Errorf("fn is given %v; want the stored grant", g)
			}
			<-ctx.Done()
			put(t, other, theKey, 2)
			return numbered(3), nil
		})
		if !errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("the late Update = %v; want ErrConflict", err)
		}
		var fence string
		if d.one(t, db, "nonce", &fence); fence != numbered(2).Fence() {
			t.Errorf("the row has the fence %q; want that of grant 2", fence)
		}
	})
}

func TestADamagedRowIsLeftAsItIs(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		db := d.pool(t)
		s := d.on(db)
		put(t, s, theKey, 1)
		d.byHand(t, db, "UPDATE {table} SET grant_data = NULL")
		if _, err := s.Load(t.Context(), theKey); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("Load = %v; want an error that is not ErrNoGrant", err)
		}
		err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			t.Error("fn was called")
			return numbered(2), nil
		})
		if err == nil {
			t.Error("Update of a damaged row succeeds")
		}

		d.byHand(t, db, "UPDATE {table} SET grant_key = 'another key'")
		n := 0
		for key, err := range s.Keys(t.Context()) {
			if n++; err == nil {
				t.Errorf("Keys yields %q for the row of another key", key)
			}
		}
		if n != 1 {
			t.Errorf("Keys yields %d times; want one error", n)
		}
	})
}

// The row of a lease on a key without a grant goes with the lease. A save
// that comes after that has nothing to change, and stores all the same.
func TestALateFirstGrantIsStored(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		late, other := d.on(d.pool(t)), d.on(d.pool(t))
		late.Lease = 100 * time.Millisecond
		err := late.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
			<-ctx.Done()
			if err := other.Update(t.Context(), theKey, returning(nil, nil)); err != nil {
				t.Error(err)
			}
			return numbered(1), nil
		})
		if err != nil {
			t.Errorf("the late Update = %v", err)
		}
		if n := number(t, other, theKey); n != 1 {
			t.Errorf("grant %d is stored; want 1", n)
		}
		put(t, other, theKey, 2)
	})
}

// The same row may be another Update's lease by then, which a late removal of
// nothing must not take away.
func TestALateRemovalOfNothingLeavesTheLeaseAlone(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		late, other := d.on(d.pool(t)), d.on(d.pool(t))
		late.Lease = 100 * time.Millisecond
		expired, taken, removed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			removed <- late.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
				<-ctx.Done()
				close(expired)
				<-taken
				return nil, b24oauth.ErrDelete
			})
		}()
		<-expired
		err := other.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			close(taken)
			if err := <-removed; err != nil {
				t.Errorf("the late removal = %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := other.Update(ctx, theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				t.Error("two Updates of the key at once")
				return nil, nil
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another Update meanwhile = %v", err)
			}
			return numbered(1), nil
		})
		if err != nil || number(t, other, theKey) != 1 {
			t.Errorf("Update = %v", err)
		}
	})
}

func TestManyMayCreateTheTableAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		db := d.pool(t)
		d.byHand(t, db, "DROP TABLE {table}") // the next line makes it for the end of the test
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := d.on(db).CreateTable(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		put(t, d.on(db), theKey, 1)
	})
}
