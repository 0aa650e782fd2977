package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneAtATimeForEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Locks
		var wg sync.WaitGroup
		for _, key := range []string{"a", "b"} {
			holding := 0
			for range 100 {
				wg.Go(func() {
					unlock, err := all.Lock(t.Context(), key)
					if err != nil {
						t.Error(err)
						return
					}
					if holding++; holding != 1 {
						t.Errorf("%d hold the lock of %q", holding, key)
					}
					<-time.After(time.Second)
					holding--
					unlock()
				})
			}
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took != 100*time.Second {
			t.Errorf("it took %v; a key waited for another", took)
		}
		if len(all.m) != 0 {
			t.Errorf("%d keys are kept that nobody uses", len(all.m))
		}
	})
}

func TestWaitingCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Locks
		unlock, err := all.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // while it waits, and with a context that has ended
			if _, err := all.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}
		unlock()
		if _, err := all.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a free lock with a context that has ended: error %v", err)
		}
		if unlock, err = all.Lock(t.Context(), "a"); err != nil {
			t.Errorf("those who gave up still hold the lock: %v", err)
		}
		unlock()
		if len(all.m) != 0 {
			t.Errorf("%d keys are kept that nobody uses", len(all.m))
		}
	})
}
