package integration

import (
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// sharing returns two programs on one table, of which the first loses answers
// of the database.
func sharing(t *testing.T, d database, srv *b24test.Server) (first, second *b24oauth.Config, f *faults) {
	t.Helper()
	f = new(faults)
	first, second = srv.Config(), srv.Config()
	first.Store, second.Store = d.on(d.faulty(t, f)), d.on(d.pool(t))
	if err := second.Save(t.Context(), theKey, srv.Install()); err != nil {
		t.Fatal(err)
	}
	return first, second, f
}

// wantAlive checks that what is stored is the pair that the authorization
// server takes, which takes each refresh token once.
func wantAlive(t *testing.T, d database, srv *b24test.Server) {
	t.Helper()
	fresh := srv.Config()
	fresh.Store = d.on(d.pool(t))
	if _, err := fresh.TokenSource(theKey).Renew(t.Context(), nil); err != nil {
		t.Errorf("the stored grant cannot be renewed any more: %v", err)
	}
}

// A save gives the lease back. If its answer is lost, another program can renew
// before it is repeated, and the repeated one is called a conflict: no pair is
// lost by that, as the stored one descends from it and is adopted.
func TestASaveThatWasOvertakenBeforeItsAnswerCameIsNoLoss(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		srv := b24test.NewServer()
		defer srv.Close()
		srv.SetSingleUse(true)
		first, second, f := sharing(t, d, srv)
		saves := 0
		f.set(func(statement string) fault {
			if !isSave(statement) {
				return healthy
			}
			if saves++; saves == 1 {
				return after
			}
			if saves == 2 {
				if _, err := second.TokenSource(theKey).Renew(t.Context(), nil); err != nil {
					t.Errorf("the renewal in between = %v", err)
				}
			}
			return healthy
		})
		if _, err := first.TokenSource(theKey).Renew(t.Context(), nil); err != nil {
			t.Errorf("the renewal whose answer was lost = %v", err)
		}
		if err := first.Flush(t.Context()); err != nil {
			t.Errorf("Flush = %v", err)
		}
		got, err := first.TokenSource(theKey).Token()
		if err != nil {
			t.Fatal(err)
		}
		g, err := second.Store.Load(t.Context(), theKey)
		if err != nil {
			t.Fatal(err)
		}
		if got.AccessToken != g.AccessToken || g.Lineage.Generation != 2 || srv.Refreshes() != 2 {
			t.Errorf("generation %d is stored after %d refreshes, and in use: %t; want the newer of two in use", g.Lineage.Generation, srv.Refreshes(), got.AccessToken == g.AccessToken)
		}
		wantAlive(t, d, srv)
	})
}

func TestNoPairIsLostWhereAnswersAre(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		srv := b24test.NewServer()
		defer srv.Close()
		srv.SetSingleUse(true)
		first, second, f := sharing(t, d, srv)
		saves := 0
		f.set(func(statement string) fault {
			if isSave(statement) {
				if saves++; saves%2 == 1 {
					return after
				}
			}
			return healthy
		})
		var wg sync.WaitGroup
		for _, c := range []*b24oauth.Config{first, second} {
			wg.Go(func() {
				for range 10 {
					if _, err := c.TokenSource(theKey).Renew(t.Context(), nil); err != nil {
						t.Errorf("Renew = %v", err)
					}
				}
			})
		}
		wg.Wait()
		g, err := second.Store.Load(t.Context(), theKey)
		if err != nil {
			t.Fatal(err)
		}
		if n := srv.Refreshes(); g.Lineage.Generation != uint64(n) || n < 10 {
			t.Errorf("generation %d is stored after %d refreshes", g.Lineage.Generation, n)
		}
		wantAlive(t, d, srv)
	})
}
