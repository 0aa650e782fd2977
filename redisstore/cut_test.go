package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// openCut returns a Store behind a proxy, whose client repeats a command so
// often, and one that reaches Redis directly. Both know that grant 1 is
// stored.
func openCut(t *testing.T, retries int) (s, direct *redisstore.Store, p *proxy) {
	t.Helper()
	direct, _ = openTest(t)
	s, p = behindProxy(t, direct.Prefix, func(o *redis.Options) { o.MaxRetries = retries })
	put(t, s, theKey, numbered(1)) // Redis knows the scripts' digests from here on
	settle(t, s, theKey)
	return s, direct, p
}

// behindProxy returns a Store whose client goes through a proxy.
func behindProxy(t *testing.T, prefix string, how func(*redis.Options)) (*redisstore.Store, *proxy) {
	t.Helper()
	o, err := redis.ParseURL(testURL(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, o.Addr)
	o.Addr = p.addr
	how(o)
	return newStore(dial(t, o), prefix), p
}

var scripts = map[string]string{
	"take":    redisstore.TakeDigest,
	"save":    redisstore.SaveDigest,
	"release": redisstore.ReleaseDigest,
}

func TestARepeatedCommandIsDoneOnce(t *testing.T) {
	for script, digest := range scripts {
		for _, when := range []moment{before, after} {
			t.Run(fmt.Sprintf("%s cut %s", script, when), func(t *testing.T) {
				s, direct, p := openCut(t, 3)
				p.set(cut{digest: digest, when: when, times: 1})
				calls := 0
				err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					calls++
					return numbered(g.UserID + 1), nil
				})
				if err != nil || calls != 1 {
					t.Errorf("Update = %v, and fn was called %d times; want no error and once", err, calls)
				}
				wantNumber(t, direct, theKey, 2)
				put(t, direct, theKey, numbered(3)) // nobody is left in its way
				p.set(cut{digest: digest, when: when, times: 1})
				if err := s.Update(t.Context(), theKey, returning(nil, b24oauth.ErrDelete)); err != nil {
					t.Errorf("Update that deletes = %v", err)
				}
				if _, err := direct.Load(t.Context(), theKey); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Errorf("Load = %v; want ErrNoGrant", err)
				}
				settle(t, s, theKey)
			})
		}
	}
}

func TestASaveThatIsCutLeavesTheOldGrantOrTheNew(t *testing.T) {
	for when, stored := range map[moment]int64{before: 1, after: 2} {
		t.Run(string(when), func(t *testing.T) {
			s, direct, p := openCut(t, -1)
			p.set(cut{digest: redisstore.SaveDigest, when: when, times: 1})
			err := s.Update(t.Context(), theKey, returning(numbered(2), nil))
			if err == nil || errors.Is(err, b24oauth.ErrConflict) {
				t.Errorf("Update whose save was cut = %v; want an error that is no conflict", err)
			}
			wantNumber(t, direct, theKey, stored)

			// The lease is kept for this Store, which has the only copy.
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if err := direct.Update(ctx, theKey, returning(numbered(9), nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another's Update = %v; want it to wait for the lease to end", err)
			}
			err = s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if g.UserID != stored {
					t.Errorf("the next Update is given grant %d; want %d", g.UserID, stored)
				}
				return numbered(2), nil
			})
			if err != nil {
				t.Errorf("the next Update = %v", err)
			}
			wantNumber(t, direct, theKey, 2)
			put(t, direct, theKey, numbered(3))
		})
	}
}

// The lease of a save that failed is for one Update at a time and survives
// one that gives up.
func TestAKeptLeaseIsHandedOn(t *testing.T) {
	s, direct, p := openCut(t, -1)
	p.set(cut{digest: redisstore.SaveDigest, when: before, times: 1})
	if err := s.Update(t.Context(), theKey, returning(numbered(2), nil)); err == nil {
		t.Fatal("Update whose save was cut = nil")
	}
	p.set(cut{digest: redisstore.TakeDigest, when: after, times: 1})
	if err := s.Update(t.Context(), theKey, returning(numbered(2), nil)); err == nil {
		t.Fatal("Update whose take was cut = nil")
	}
	failure := errors.New("fn's own")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := s.Update(ctx, theKey, returning(nil, failure))
	if !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("failing Update after a failed save = %v; want fn's error alone", err)
	}
	put(t, direct, theKey, numbered(3))
}

func TestATakeThatIsCutHoldsNobodyUp(t *testing.T) {
	for _, when := range []moment{before, after} {
		s, direct, p := openCut(t, -1)
		p.set(cut{digest: redisstore.TakeDigest, when: when, times: 1})
		err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			t.Error("fn was called without a lease")
			return nil, nil
		})
		if err == nil || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("Update whose take was cut %s = %v; want an error that is no conflict", when, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- direct.Update(t.Context(), theKey, returning(numbered(2), nil)) }()
		if err := await(t, ended, "another's Update"); err != nil {
			t.Errorf("another's Update = %v", err)
		}
	}
}

// The lease runs out before the client repeats the save, and another process
// writes in between. The fence does not tell: it stays with a verdict, and
// with the others it is a later one's.
func TestARepeatedSaveLeavesWhatCameAfterItAlone(t *testing.T) {
	verdict := numbered(1)
	verdict.Refused = b24oauth.Refusal{Code: "invalid_grant", At: time.Now()}
	lifted := numbered(1)
	lifted.UserID = 7
	for name, c := range map[string]struct {
		save  updateFunc
		later *b24oauth.Grant
	}{
		"a pair":    {returning(numbered(2), nil), numbered(3)},
		"a verdict": {returning(verdict, nil), lifted},
		"a purge":   {returning(nil, b24oauth.ErrDelete), numbered(3)},
	} {
		t.Run(name, func(t *testing.T) {
			s, direct, p := openCut(t, 3)
			s.Lease = 50 * time.Millisecond
			p.set(cut{digest: redisstore.SaveDigest, when: after, times: 1, then: func() { put(t, direct, theKey, c.later) }})
			if err := s.Update(t.Context(), theKey, c.save); err != nil {
				t.Errorf("Update whose save was done and repeated = %v", err)
			}
			g, err := direct.Load(t.Context(), theKey)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.later, g); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

// Each save's answer may be lost and the others are waiting: nobody may take
// the repeated save for a conflict, because it has been overtaken.
func TestNoUpdateIsLostWhereAnswersAre(t *testing.T) {
	const goroutines, each = 6, 5
	s, direct, p := openCut(t, 3)
	p.set(cut{digest: redisstore.SaveDigest, when: after, times: -1})
	var wg sync.WaitGroup
	for i := range goroutines {
		store := []*redisstore.Store{s, direct}[i%2]
		wg.Go(func() {
			for range each {
				err := store.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					return numbered(g.UserID + 1), nil
				})
				if err != nil {
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantNumber(t, direct, theKey, 1+goroutines*each)
}

// A client without a timeout of its own must not make Update last for ever.
func TestASaveThatIsNotAnsweredEndsInTime(t *testing.T) {
	t.Parallel()
	direct, _ := openTest(t)
	s, p := behindProxy(t, direct.Prefix, func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = -1, -1 })
	put(t, s, theKey, numbered(1))
	began := time.Now()
	err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		p.silent.Store(true)
		return numbered(2), nil
	})
	if err == nil || errors.Is(err, b24oauth.ErrConflict) || time.Since(began) < 9*time.Second {
		t.Errorf("Update = %v after %v; want an error that is no conflict, after 10 s", err, time.Since(began))
	}
}
