package b24oauth

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// BenchmarkTransportHotPath is what Transport does for the usual call: the path
// of BenchmarkTokenHotPath without the copy that Token hands out.
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
}
