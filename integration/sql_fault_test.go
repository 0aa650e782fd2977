package integration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

const theKey = "example.bitrix24.com"

type fnFunc = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)

func numbered(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{MemberID: "member", ClientEndpoint: "https://example.bitrix24.com/rest/", AccessToken: "access", RefreshToken: "refresh", UserID: n}
}

func returning(g *b24oauth.Grant, err error) fnFunc {
	return func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, err }
}

func put(t testing.TB, s b24oauth.Store, key string, n int64) {
	t.Helper()
	if err := s.Update(t.Context(), key, returning(numbered(n), nil)); err != nil {
		t.Fatal(err)
	}
}

// number returns that of the stored grant, 0 if there is none.
func number(t testing.TB, s b24oauth.Store, key string) int64 {
	t.Helper()
	g, err := s.Load(t.Context(), key)
	switch {
	case errors.Is(err, b24oauth.ErrNoGrant):
		return 0
	case err != nil:
		t.Fatal(err)
	}
	return g.UserID
}

// one returns what is in the only row of a table that was written to.
func (d database) one(t testing.TB, db *sql.DB, columns string, into ...any) {
	t.Helper()
	if err := db.QueryRow("SELECT " + columns + " FROM " + d.Table).Scan(into...); err != nil {
		t.Fatal(err)
	}
}

// The statements of an Update, as a fault tells them apart.
func isSave(s string) bool {
	return strings.HasPrefix(s, "UPDATE") && strings.Contains(s, "grant_data")
}
func isTake(s string) bool {
	return strings.HasPrefix(s, "UPDATE") && strings.Contains(s, "lease_until") || strings.HasPrefix(s, "INSERT")
}
func isRemove(s string) bool { return strings.HasPrefix(s, "DELETE") }

// times is a fault in the first n statements of a kind.
func times(n int, of func(string) bool, what fault) func(string) fault {
	return func(statement string) fault {
		if !of(statement) || n == 0 {
			return healthy
		}
		n--
		return what
	}
}

func TestSaveSurvivesADyingConnection(t *testing.T) {
	for name, what := range map[string]fault{"before": before, "after": after} {
		for _, stored := range []int64{0, 1} {
			t.Run(name+map[int64]string{0: ", first grant", 1: ", next grant"}[stored], func(t *testing.T) {
				onEach(t, func(t *testing.T, d database) {
					var f faults
					db := d.faulty(t, &f)
					s := d.on(db)
					if stored != 0 {
						put(t, s, theKey, stored)
					}
					f.set(times(2, isSave, what))
					if err := s.Update(t.Context(), theKey, returning(numbered(2), nil)); err != nil {
						t.Errorf("Update = %v; want the save repeated, or recognised", err)
					}
					if n := number(t, s, theKey); n != 2 {
						t.Errorf("grant %d is stored; want 2", n)
					}
					var version int64
					var owner string
					d.one(t, db, "version, owner", &version, &owner)
					if version != stored+1 || owner != "" {
						t.Errorf("version %d, owner %q; want the grant saved once and the lease given back", version, owner)
					}
				})
			})
		}
	}
}

func TestRemovalSurvivesADyingConnection(t *testing.T) {
	for name, what := range map[string]fault{"before": before, "after": after} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				var f faults
				s := d.on(d.faulty(t, &f))
				put(t, s, theKey, 1)
				f.set(times(1, isRemove, what))
				if err := s.Update(t.Context(), theKey, returning(nil, b24oauth.ErrDelete)); err != nil {
					t.Errorf("Update = %v", err)
				}
				if n := number(t, s, theKey); n != 0 {
					t.Errorf("grant %d is stored; want none", n)
				}
			})
		})
	}
}

func TestLeaseSurvivesADyingConnection(t *testing.T) {
	for name, what := range map[string]fault{"before": before, "after": after} {
		for _, stored := range []int64{0, 1} {
			t.Run(name+map[int64]string{0: ", no grant", 1: ", a grant"}[stored], func(t *testing.T) {
				onEach(t, func(t *testing.T, d database) {
					var f faults
					s := d.on(d.faulty(t, &f))
					if stored != 0 {
						put(t, s, theKey, stored)
					}
					f.set(times(1, isTake, what))
					failure := errors.New("fn's own")
					err := s.Update(t.Context(), theKey, returning(nil, failure))
					if !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
						t.Errorf("Update = %v; want fn called, and no conflict with the Update's own lost lease", err)
					}
					put(t, s, theKey, 2) // at once: nothing is left in its way
				})
			})
		}
	}
}

// A take whose answer is lost must not leave the key blocked when the Update
// is given up.
func TestALeaseNobodyHeardOfIsGivenBack(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		var f faults
		s, other := d.on(d.faulty(t, &f)), d.on(d.pool(t))
		put(t, s, theKey, 1)
		ctx, cancel := context.WithCancel(t.Context())
		f.set(func(statement string) fault {
			if !isTake(statement) {
				return healthy
			}
			cancel()
			return after
		})
		err := s.Update(ctx, theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			t.Error("fn was called after ctx had ended")
			return nil, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Update = %v; want context.Canceled", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		failure := errors.New("fn's own")
		if err := other.Update(ctx, theKey, returning(nil, failure)); !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("the next Update = %v; want it to find the lease given back", err)
		}
	})
}

// The database stays away for all of a save: the lease must stay too.
func TestALeaseIsKeptWhenTheSaveFails(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		t.Parallel()
		var f faults
		s, other := d.on(d.faulty(t, &f)), d.on(d.pool(t))
		put(t, s, theKey, 1)
		f.set(times(-1, isSave, before))
		begun := time.Now()
		err := s.Update(t.Context(), theKey, returning(numbered(2), nil))
		if !errors.Is(err, errDied) || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("Update = %v; want the connection's error", err)
		}
		if spent := time.Since(begun); spent < 9*time.Second || spent > 12*time.Second {
			t.Errorf("the save was given up after %v; want its 10 s used", spent)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err = other.Update(ctx, theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			t.Error("another Update got the refresh token that is used up")
			return nil, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("another Update = %v; want it to wait", err)
		}
		if n := number(t, other, theKey); n != 1 {
			t.Errorf("grant %d is stored; want the old one", n)
		}

		// The one who has the new pair does not wait for itself, and may not
		// trust a refusal of the old one.
		f.set(times(0, isSave, before))
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		failure := errors.New("fn's own")
		if err := s.Update(ctx, theKey, returning(nil, failure)); !errors.Is(err, failure) || !errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("the next Update of the same Store = %v; want its fn called at once, and the doubt told", err)
		}
		put(t, s, theKey, 2)
		put(t, other, theKey, 3)
	})
}

func TestAnAnswerThatNoWaitingChangesIsToldAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := sqlstore.New(d.pool(t), d.Dialect)
		s.Table = "b24oauth_test_no_such_table"
		begun := time.Now()
		if _, err := s.Load(t.Context(), theKey); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("Load without a table = %v; want the database's error", err)
		}
		if err := s.Update(t.Context(), theKey, returning(nil, nil)); err == nil {
			t.Error("Update without a table succeeds")
		}
		if spent := time.Since(begun); d.Dialect != sqlstore.SQLite && spent > time.Second {
			t.Errorf("told after %v", spent)
		}
	})
}
