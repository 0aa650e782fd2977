package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

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
					if !errors.Is(err, failure) {
						t.Errorf("Update = %v; want fn called", err)
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
		if err := other.Update(ctx, theKey, returning(nil, failure)); !errors.Is(err, failure) {
			t.Errorf("the next Update = %v; want it to find the lease given back", err)
		}
	})
}

// A take that arrives when its asker has gone must not block the key for a
// whole lease, in which no release follows any more.
func TestALeaseThatIsTakenTooLateIsNobodys(t *testing.T) {
	for _, stored := range []int64{0, 1} {
		t.Run(map[int64]string{0: "no grant", 1: "a grant"}[stored], func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				var f faults
				db := d.pool(t)
				s, other := d.on(d.faulty(t, &f)), d.on(db)
				if stored != 0 {
					put(t, other, theKey, stored)
				}
				f.set(func(statement string) fault {
					switch {
					case isRelease(statement):
						return before
					case isTake(statement):
						return overdue
					}
					return healthy
				})
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if err := s.Update(ctx, theKey, returning(nil, nil)); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("Update = %v; want context.DeadlineExceeded", err)
				}
				f.carryOut(t, db)
				ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if err := other.Update(ctx, theKey, returning(numbered(2), nil)); err != nil {
					t.Errorf("the next Update = %v; want the key free", err)
				}
			})
		})
	}
}

// The fence is the same after a verdict, so it cannot tell that what was read
// before the take has changed since.
func TestFnIsGivenWhatWasChangedJustBeforeTheTake(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		var f faults
		s, other := d.on(d.faulty(t, &f)), d.on(d.pool(t))
		put(t, other, theKey, 1)
		verdict := b24oauth.Refusal{Code: "invalid_grant"}
		first := true
		f.set(func(statement string) fault {
			if first && isTake(statement) {
				first = false
				g := numbered(1)
				g.Refused = verdict
				if err := other.Update(t.Context(), theKey, returning(g, nil)); err != nil {
					t.Error(err)
				}
			}
			return healthy
		})
		err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g.Refused != verdict {
				t.Error("fn is given the grant as it was before the verdict")
			}
			return nil, nil
		})
		if err != nil {
			t.Errorf("Update = %v", err)
		}
	})
}

// Each statement is a way to the database and back, for every grant.
func TestARenewalIsThreeStatements(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		var f faults
		s := d.on(d.faulty(t, &f))
		put(t, s, theKey, 1)
		var sent []string
		f.set(func(statement string) fault {
			sent = append(sent, statement)
			return healthy
		})
		put(t, s, theKey, 2)
		if len(sent) != 3 || !isTake(sent[1]) || !isSave(sent[2]) {
			t.Errorf("an Update sends %q; want a look, a take and a save", sent)
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

		// The one who has the new pair does not wait for itself.
		f.set(times(0, isSave, before))
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		failure := errors.New("fn's own")
		if err := s.Update(ctx, theKey, returning(nil, failure)); !errors.Is(err, failure) {
			t.Errorf("the next Update of the same Store = %v; want its fn called at once", err)
		}
		put(t, s, theKey, 2)
		put(t, other, theKey, 3)
	})
}
