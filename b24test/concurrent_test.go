package b24test_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/b24test"
)

func TestEverythingAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				g := srv.Install()
				access, _ := refresh(t, srv, g.RefreshToken)
				for range 5 {
					if a := call(t, srv, access); a.status != 200 && a.status != 302 {
						t.Errorf("%d %s", a.status, a.body)
					}
				}
				srv.Requests()
				srv.TokenRequests()
			})
		}
		wg.Go(func() { srv.Rename() })
		wg.Wait()
		if n := srv.Refreshes(); n != 20 {
			t.Errorf("%d refreshes, want 20", n)
		}
		if n := len(srv.Requests()); n != 100 {
			t.Errorf("%d calls, want 100", n)
		}
	})
}

func TestOneOfManyWinsASingleUseToken(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		g := srv.Install()
		var wg sync.WaitGroup
		won := make(chan int, 20)
		for range 20 {
			wg.Go(func() { won <- exchange(t, srv, refreshParams(srv, g.RefreshToken)).status })
		}
		wg.Wait()
		close(won)
		count := map[int]int{}
		for status := range won {
			count[status]++
		}
		if diff := cmp.Diff(map[int]int{200: 1, 400: 19}, count); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
	})
}
