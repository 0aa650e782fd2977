package turns

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
		var all Turns
		var wg sync.WaitGroup
		for _, key := range []string{"a", "b"} {
			having := 0
			for range 100 {
				wg.Go(func() {
					leave, err := all.Take(t.Context(), key)
					if err != nil {
						t.Error(err)
						return
					}
					if having++; having != 1 {
						t.Errorf("%d have the turn of %q", having, key)
					}
					<-time.After(time.Second)
					having--
					leave()
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
		var all Turns
		leave, err := all.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // while it waits, and with a context that has ended
			if _, err := all.Take(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}
		leave()
		if _, err := all.Take(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a free turn with a context that has ended: error %v", err)
		}
		if leave, err = all.Take(t.Context(), "a"); err != nil {
			t.Errorf("those who gave up still have the turn: %v", err)
		}
		leave()
		if len(all.m) != 0 {
			t.Errorf("%d keys are kept that nobody uses", len(all.m))
		}
	})
}
