package b24oauth

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// BenchmarkTransportHotPath is what Transport does for the usual call: the path
// of BenchmarkTokenHotPath without the copy that Token hands out. The last of it
// tells how many times as long oauth2.ReuseTokenSource takes at 128 goroutines:
// the two take turns, so that what else a machine does is in both. With nothing
// else to do, that is: where one core is left, nobody ever waits for a mutex.
//
//	go test -run '^$' -bench TransportHotPath/128.beside -benchtime 20x .
func BenchmarkTransportHotPath(b *testing.B) {
	c := &Config{ClientID: "id", ClientSecret: "secret"}
	now := time.Now()
	err := c.Save(context.Background(), "key", &Grant{
		ClientEndpoint: "https://portal.bitrix24.com/rest/",
		AccessToken:    "access",
		RefreshToken:   "refresh",
		Issued:         now,
		Expiry:         now.Add(24 * time.Hour),
	})
	if err != nil {
		b.Fatal(err)
	}
	s, ctx := c.TokenSource("key"), context.Background()
	b.Run("1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.fresh(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("128", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(128 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.fresh(ctx); err != nil {
					b.Error(err)
				}
			}
		})
	})
	static := &oauth2.Token{AccessToken: "token", Expiry: now.Add(24 * time.Hour)}
	reuse := oauth2.ReuseTokenSource(static, oauth2.StaticTokenSource(static))
	b.Run("128 beside ReuseTokenSource", func(b *testing.B) {
		var ours, theirs []time.Duration
		for b.Loop() {
			ours = append(ours, crowd(func() { _, _ = s.fresh(ctx) }))
			theirs = append(theirs, crowd(func() { _, _ = reuse.Token() }))
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		b.ReportMetric(float64(theirs[len(theirs)/2])/float64(ours[len(ours)/2]), "x-faster")
		b.ReportMetric(0, "ns/op")
	})
}

// crowd returns how long 128 goroutines that start together take for ten thousand
// calls each: long enough that each meets the others.
func crowd(call func()) time.Duration {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 128 {
		wg.Go(func() {
			<-start
			for range 10_000 {
				call()
			}
		})
	}
	begun := time.Now()
	close(start)
	wg.Wait()
	return time.Since(begun)
}
