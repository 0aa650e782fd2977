package redisstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth/redisstore"
)

// A request that was on its way when its asker gave up reaches Redis after
// the release that was to undo it.
func TestALeaseAskedForTooLateIsNobodys(t *testing.T) {
	s, direct, p := openCut(t, 3)
	let := holdBack(t, p, redisstore.TakeDigest)
	releases := p.count(redisstore.ReleaseDigest)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Update(ctx, theKey, returning(numbered(2), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Update whose request is held back = %v; want context.DeadlineExceeded", err)
	}
	eventually(t, func() bool { return p.count(redisstore.ReleaseDigest) > releases }, "the release after an Update that gave up")
	let()
	eventually(t, func() bool { return s.Asking() == 0 }, "the answer to the late request")
	if fields := fieldsOf(t, connect(t), nameOf(t, s, theKey)); fields["owner"] != "" {
		t.Errorf("the late request has taken the lease: the hash is %v", fields)
	}
	put(t, direct, theKey, numbered(2))
}

// The clock was set, or another server took over; or, on a cluster whose
// clocks differ, answers of another master come all the time.
func TestAWrongReadingOfRedisClockShutsNobodyOut(t *testing.T) {
	for name, off := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s, _ := openTest(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			over, end := context.WithCancel(t.Context())
			defer end()
			wg.Go(func() {
				for over.Err() == nil {
					s.SetClock(time.Now().Add(off))
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := s.Update(ctx, theKey, returning(numbered(2), nil)); err != nil {
				t.Errorf("Update = %v", err)
			}
			wantNumber(t, s, theKey, 2)
		})
	}
}
