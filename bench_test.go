package b24oauth_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// BenchmarkTokenHotPath is the usual call, for a token that works, beside
// oauth2's own reuse of one, at 1 and at 128 goroutines.
func BenchmarkTokenHotPath(b *testing.B) {
	config := &b24oauth.Config{ClientID: mintedClientID, ClientSecret: "secret", Store: minting{}}
	static := &oauth2.Token{AccessToken: "token", Expiry: time.Now().Add(time.Hour)}
	for _, of := range []struct {
		name   string
		source oauth2.TokenSource
	}{
		{"ours", config.TokenSource("0123456789abcdef0123456789abcdef")},
		{"ReuseTokenSource", oauth2.ReuseTokenSource(static, oauth2.StaticTokenSource(static))},
	} {
		if _, err := of.source.Token(); err != nil {
			b.Fatal(err)
		}
		for _, goroutines := range []int{1, 128} {
			b.Run(fmt.Sprintf("%s/%d", of.name, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				if goroutines == 1 {
					for b.Loop() {
						_, _ = of.source.Token()
					}
					return
				}
				b.SetParallelism(goroutines / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						_, _ = of.source.Token()
					}
				})
			})
		}
	}
}
