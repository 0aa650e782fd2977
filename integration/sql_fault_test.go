package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
	"github.com/google/go-cmp/cmp"
)

const theKey = "example.bitrix24.com"

type fnFunc = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)

func numbered(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{MemberID: "member", ClientEndpoint: "https://example.bitrix24.com/rest/", AccessToken: "access", RefreshToken: fmt.Sprintf("refresh %d", n), UserID: n}
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
	return strings.HasPrefix(s, "UPDATE") && strings.Contains(s, "grant_data") && !isTake(s)
}
func isTake(s string) bool {
	return strings.HasPrefix(s, "UPDATE") && strings.Contains(s, "lease_until") || strings.HasPrefix(s, "INSERT")
}
func isRemove(s string) bool { return strings.HasPrefix(s, "DELETE") }
func isRelease(s string) bool {
	return strings.HasPrefix(s, "UPDATE") && strings.Contains(s, "SET owner = ''") || isRemove(s)
}

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

// A verdict has the fence of what it is about, so that its save cannot be told
// from the value before it.
func TestAVerdictSurvivesADyingConnection(t *testing.T) {
	for name, what := range map[string]fault{"before": before, "after": after} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				var f faults
				s := d.on(d.faulty(t, &f))
				put(t, s, theKey, 1)
				want := numbered(1)
				want.Refused = b24oauth.Refusal{Code: "invalid_grant", At: time.Date(2026, 8, 9, 10, 11, 12, 0, time.UTC)}
				f.set(times(1, isSave, what))
				if err := s.Update(t.Context(), theKey, returning(want, nil)); err != nil {
					t.Errorf("Update = %v", err)
				}
				got, err := s.Load(t.Context(), theKey)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("Load = %v; (-stored +loaded):\n%s", err, diff)
				}
			})
		})
	}
}

func TestASaveWhoseAnswerIsLostDoesNotUndoTheNextOne(t *testing.T) {
	for name, saved := range map[string]int64{"a pair": 2, "the same token": 1} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				var f faults
				s, other := d.on(d.faulty(t, &f)), d.on(d.pool(t))
				put(t, other, theKey, 1)
				saves := 0
				f.set(func(statement string) fault {
					if !isSave(statement) {
						return healthy
					}
					if saves++; saves == 1 {
						return after
					}
					put(t, other, theKey, 3)
					return healthy
				})
				if err := s.Update(t.Context(), theKey, returning(numbered(saved), nil)); !errors.Is(err, b24oauth.ErrConflict) {
					t.Errorf("Update = %v; want ErrConflict, as a newer grant is stored", err)
				}
				if n := number(t, other, theKey); n != 3 {
					t.Errorf("grant %d is stored; want 3", n)
				}
			})
		})
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
