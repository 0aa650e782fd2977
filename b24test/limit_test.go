package b24test_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestABudgetOfCallsFillsAndRunsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		config := srv.Config()
		config.Store = new(b24oauth.MemoryStore)
		if err := config.Save(t.Context(), "portal", srv.Install()); err != nil {
			t.Fatal(err)
		}
		client := srv.HTTPClient(config, "portal")
		answered := func(calls int) (n int) {
			for range calls {
				resp, err := client.Get(srv.Endpoint() + "profile")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode == 200 {
					n++
				}
			}
			return n
		}
		srv.EnforceLimit(2, 5)
		for _, step := range []struct {
			after       time.Duration
			calls, want int
		}{{0, 7, 5}, {time.Second, 3, 2}, {time.Minute, 6, 5}} {
			time.Sleep(step.after)
			if n := answered(step.calls); n != step.want {
				t.Errorf("after %v %d of %d calls were answered, want %d", step.after, n, step.calls, step.want)
			}
		}
		srv.EnforceLimit(0, 0)
		if n := answered(100); n != 100 {
			t.Errorf("without a budget %d of 100 calls were answered", n)
		}
	})
}
