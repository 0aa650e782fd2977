package limit_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/limit"
)

// world is a portal that enforces its budget, and a client that keeps it, in a bubble.
type world struct {
	*b24test.Server
	client *http.Client
}

func bubble(t *testing.T, do func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Server: b24test.NewMemoryServer()}
		defer w.Close()
		config := w.Config()
		config.Store = new(b24oauth.MemoryStore)
		if err := config.Save(t.Context(), "example", w.Install()); err != nil {
			t.Fatal(err)
		}
		w.EnforceLimit(2, 50)
		w.client = &http.Client{Transport: &limit.Transport{Base: w.HTTPClient(config, "example").Transport}}
		do(t, w)
	})
}

func (w *world) call(t *testing.T, ctx context.Context) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Endpoint()+"crm.deal.list", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// together makes so many calls at once, and returns how many were refused.
func (w *world) together(t *testing.T, n int) (refused int) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range n {
		wg.Go(func() {
			if status := w.call(t, t.Context()); status != 200 {
				mu.Lock()
				defer mu.Unlock()
				refused++
			}
		})
	}
	wg.Wait()
	return refused
}

func TestAPortalIsNotCalledMoreThanItsBudgetAllows(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		begun := time.Now()
		if n := w.together(t, 150); n != 0 {
			t.Errorf("%d calls were refused", n)
		}
		if d := time.Since(begun); d < 52*time.Second || d > 53*time.Second {
			t.Errorf("150 calls took %v", d)
		}
	})
}

func TestEveryPortalHasABudgetOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.together(t, 50)
		begun := time.Now()
		other := limit.Process{}
		for range limit.DefaultBurst {
			if err := other.Wait(t.Context(), "other.example"); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("another portal was waited for: %v", d)
		}
	})
}

func TestWhatOthersUseIsLeftToThem(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		others := 0 // of the same address, without a limit
		for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(900 * time.Millisecond) {
			resp, err := w.Client().Get(w.Endpoint() + "profile?auth=x") // which is refused later than the budget is looked at
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			others++
		}
		w.RateLimit(1)
		if status := w.call(t, t.Context()); status != 503 {
			t.Fatalf("status %d", status)
		}
		begun := time.Now()
		for range 10 {
			w.call(t, t.Context())
		}
		if d := time.Since(begun).Round(time.Second); d < 9*time.Second || d > 10*time.Second {
			t.Errorf("after a refusal 10 calls took %v", d)
		}
		time.Sleep(limit.Calm + time.Minute)
		begun = time.Now()
		for range 20 {
			w.call(t, t.Context())
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("after a while 20 calls took %v", d)
		}
	})
}

func TestARefusalForAnotherReasonChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RefuseNext(2, b24test.Answer{Status: 503, Body: `{"error":"OVERLOAD_LIMIT"}`})
		begun := time.Now()
		for range 40 {
			w.call(t, t.Context())
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("40 calls took %v", d)
		}
	})
}

func TestACallThatCannotBeSentInTimeFailsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.together(t, limit.DefaultBurst)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		begun := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Endpoint()+"profile", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.client.Do(req); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 0 {
			t.Errorf("%v, after %v", err, time.Since(begun))
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err = w.client.Do(req.WithContext(gone)); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who has gone: %v", err)
		}
		if n := len(w.Requests()); n != limit.DefaultBurst {
			t.Errorf("%d requests", n)
		}
	})
}

func TestWhatIsNoCallOfAMethodIsNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		begun := time.Now()
		for range 200 {
			resp, err := w.client.Get(w.ScriptURL())
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("200 files took %v", d)
		}
	})
}

func TestPortalsThatNobodyCallsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b limit.Process
		for i := range 3000 {
			if err := b.Wait(t.Context(), strings.Repeat("x", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := limit.Portals(&b); n > 1000 {
			t.Errorf("%d portals are remembered", n)
		}
	})
}
