package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

const day = 24 * time.Hour

// kept is what KeepAlive has yielded, and the first error without a key.
type kept struct {
	renewed []string
	failed  map[string]error
	err     error
}

func keepAlive(ctx context.Context, c *b24oauth.Config, idle time.Duration) kept {
	k := kept{failed: make(map[string]error)}
	for key, err := range c.KeepAlive(ctx, idle) {
		switch {
		case err == nil:
			k.renewed = append(k.renewed, key)
		case key == "" && k.err == nil:
			k.err = err
		default:
			k.failed[key] = err
		}
	}
	return k
}

// portals is a portal whose application has a grant of so many users, each under a
// key of its own, and idles for 25 days in the bubble of the test.
func portals(t *testing.T, n int) (*b24test.Server, *b24oauth.Config) {
	t.Helper()
	srv := b24test.NewMemoryServer()
	t.Cleanup(srv.Close)
	c := srv.Config()
	c.Store = new(b24oauth.MemoryStore)
	for i := range n {
		keep(t, c, fmt.Sprintf("portal-%02d", i), srv.Install())
	}
	time.Sleep(25 * day)
	return srv, c
}

func keep(t *testing.T, c *b24oauth.Config, key string, g *b24oauth.Grant) {
	t.Helper()
	if err := c.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
}

func TestKeepAliveRenewsWhatIsIdleAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 3)
		keep(t, c, "in use", srv.Install())
		single := srv.Install()
		single.RefreshToken = ""
		keep(t, c, "without a refresh token", single)
		if err := c.Delete(t.Context(), "portal-02"); err != nil {
			t.Fatal(err)
		}
		k := keepAlive(t.Context(), c, 20*day)
		if diff := cmp.Diff([]string{"portal-00", "portal-01"}, k.renewed); diff != "" || k.err != nil || len(k.failed) > 0 {
			t.Errorf("renewed: %s; failed: %v, %v", diff, k.failed, k.err)
		}
		if n := len(srv.TokenRequests()); n != 2 {
			t.Errorf("%d token requests", n)
		}
		for _, key := range []string{"portal-00", "in use"} {
			g, err := c.Store.Load(t.Context(), key)
			if err != nil || time.Since(g.Issued) > time.Minute {
				t.Errorf("%s was issued at %v, %v", key, g.Issued, err)
			}
		}
		if k := keepAlive(t.Context(), c, 20*day); len(k.renewed)+len(k.failed) != 0 || k.err != nil {
			t.Errorf("the second time: %v", k)
		}
	})
}

func TestKeepAliveRenewsAtMostTwoInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := portals(t, 20)
		var at []time.Time
		base := c.TokenClient.Transport
		c.TokenClient = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return base.RoundTrip(r)
		})}
		if k := keepAlive(t.Context(), c, 20*day); len(k.renewed) != 20 {
			t.Fatalf("%d were renewed: %v", len(k.renewed), k.failed)
		}
		for i := range at[2:] {
			if d := at[i+2].Sub(at[i]); d < time.Second {
				t.Errorf("three renewals within %v", d)
			}
		}
	})
}

func TestKeepAliveDoesNotWaitForGrantsThatNeedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 0)
		for i := range 1000 {
			keep(t, c, fmt.Sprint(i), srv.Install())
		}
		begun := time.Now()
		keepAlive(t.Context(), c, 20*day)
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func TestKeepAliveTellsOfADeadGrantAndAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 2)
		srv.KillGrants()
		for range 3 {
			k := keepAlive(t.Context(), c, 20*day)
			if got := slices.Sorted(maps.Keys(k.failed)); !slices.Equal(got, []string{"portal-00", "portal-01"}) {
				t.Errorf("told of %q, %v", got, k.err)
			}
			for key, err := range k.failed {
				if te, ok := errors.AsType[*b24oauth.TokenError](err); !ok || !errors.Is(err, b24oauth.ErrReauthorize) || te.Key != key {
					t.Errorf("%s: %v", key, err)
				}
			}
			time.Sleep(2 * day) // after which a call would ask again
		}
		if n := len(srv.TokenRequests()); n != 2 {
			t.Errorf("%d token requests", n)
		}
	})
}

func TestTwoProcessesKeepEachGrantAliveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 10)
		other := srv.Config()
		other.Store = c.Store
		together(2, func(i int) { keepAlive(t.Context(), []*b24oauth.Config{c, other}[i], 20*day) })
		if n := srv.Refreshes(); n != 10 {
			t.Errorf("%d renewals of 10 grants", n)
		}
	})
}

func TestKeepAliveRenewsWhatDoesNotSayWhenItWasIssued(t *testing.T) {
	for name, change := range map[string]func(*b24oauth.Grant){
		"nothing is said":          func(g *b24oauth.Grant) { g.Issued, g.Expiry = time.Time{}, time.Time{} },
		"a clock was a year ahead": func(g *b24oauth.Grant) { g.Issued = g.Issued.Add(365 * day); g.Expiry = g.Expiry.Add(365 * day) },
		"the token lives long":     func(g *b24oauth.Grant) { g.Expiry = g.Expiry.Add(90 * day) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := portals(t, 0)
				g := srv.Install()
				change(g)
				keep(t, c, "portal", g)
				time.Sleep(25 * day)
				if k := keepAlive(t.Context(), c, 20*day); len(k.renewed) != 1 || srv.Refreshes() != 1 {
					t.Errorf("renewed %q, failed %v; %d refreshes", k.renewed, k.failed, srv.Refreshes())
				}
			})
		})
	}
}

func TestKeepAliveLeavesAnotherApplicationsGrantsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 1)
		other := *srv.Config()
		other.ClientID, other.Store = "local.another", c.Store
		if k := keepAlive(t.Context(), &other, 20*day); len(k.renewed)+len(k.failed) > 0 || k.err != nil {
			t.Errorf("another application's: %v", k)
		}
		former := *srv.Config()
		former.ClientID, former.Store, former.FormerClientIDs = "local.anew", c.Store, []string{c.ClientID}
		if k := keepAlive(t.Context(), &former, 20*day); !errors.Is(k.failed["portal-00"], b24oauth.ErrReauthorize) {
			t.Errorf("the application's own of before: %v", k)
		}
		if n := len(srv.TokenRequests()); n != 0 {
			t.Errorf("%d token requests", n)
		}
	})
}

func TestKeepAliveOnAScheduleThatBitrix24BlocksIsRefused(t *testing.T) {
	for _, idle := range []time.Duration{-time.Hour, 0, time.Hour, day - 1, 30 * day, 365 * day} {
		srv := b24test.NewServer()
		c := srv.Config()
		c.Store = new(b24oauth.MemoryStore)
		old := srv.Install()
		old.Issued = old.Issued.Add(-29 * day)
		keep(t, c, "portal", old)
		k := keepAlive(t.Context(), c, idle)
		if !errors.Is(k.err, b24oauth.ErrMisconfigured) || len(srv.TokenRequests()) != 0 || len(k.renewed) != 0 {
			t.Errorf("idle for %v: %v", idle, k)
		}
		srv.Close()
	}
}

func TestKeepAliveEndsWithItsContextOrItsLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 10)
		for range c.KeepAlive(t.Context(), 20*day) {
			break
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cause := errors.New("the operator has seen enough")
		var last error
		n := 0
		for _, err := range c.KeepAlive(ctx, 20*day) {
			if n++; n == 2 {
				cancel(cause)
			}
			last = err
		}
		if n != 3 || !errors.Is(last, context.Canceled) || !errors.Is(last, cause) {
			t.Errorf("%d were yielded, the last with %v", n, last)
		}
		if n := srv.Refreshes(); n != 3 {
			t.Errorf("%d renewals", n)
		}
	})
}

func TestKeepAliveGoesOnPastAnErrorOfTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := portals(t, 2)
		damaged := errors.New("a row is damaged")
		c.Store = listing{c.Store, func(yield func(string, error) bool) {
			_ = yield("", damaged) && yield("portal-00", nil) && yield("nothing", nil) && yield("portal-01", nil)
		}}
		if k := keepAlive(t.Context(), c, 20*day); !errors.Is(k.err, damaged) || len(k.renewed) != 2 || len(k.failed) != 0 {
			t.Errorf("got %v", k)
		}
	})
}

// listing is a Store with another list of its keys.
type listing struct {
	b24oauth.Store
	keys iter.Seq2[string, error]
}

func (l listing) Keys(context.Context) iter.Seq2[string, error] { return l.keys }

func TestKeepAliveSaysWhatIsWrongWithTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := portals(t, 2)
		c.Store = struct{ b24oauth.Store }{c.Store}
		if k := keepAlive(t.Context(), c, 20*day); !errors.Is(k.err, errors.ErrUnsupported) {
			t.Errorf("a Store that cannot list: %v", k)
		}
		s := newFaultyStore()
		failing := srv.Config()
		failing.Store = listing{s, func(yield func(string, error) bool) { yield("portal-00", nil) }}
		s.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, errors.New("the disk is gone") })
		if k := keepAlive(t.Context(), failing, 20*day); !errors.Is(k.failed["portal-00"], b24oauth.ErrUnavailable) {
			t.Errorf("a Store that fails: %v", k)
		}
	})
}
