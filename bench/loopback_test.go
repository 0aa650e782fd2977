package bench

import (
	"cmp"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// BenchmarkLoopback is a POST of 1 KiB to a server on this machine, over
// connections that stay open: what a caller waits for with Transport, as a
// multiple of what it waits for without, and how many requests come through,
// 32 at a time, as a part of how many do without.
func BenchmarkLoopback(b *testing.B) {
	for _, secure := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				b.Error(err)
			}
			io.WriteString(w, `{"result":true}`)
		}))
		protocol := "HTTP"
		if secure {
			protocol = "HTTPS"
			server.StartTLS() // speaks HTTP/1, unless told otherwise
		} else {
			server.Start()
		}
		defer server.Close()
		base := server.Client().Transport.(*http.Transport)
		base.MaxIdleConnsPerHost = 64
		source := sourceAt(b, server.URL+"/rest/")
		kibibyte := strings.Repeat("b", 1<<10)
		for _, c := range []struct{ name, contentType, body string }{
			{"form", "application/x-www-form-urlencoded", "a=" + kibibyte},
			{"JSON", "application/json", `{"a":"` + kibibyte + `"}`},
		} {
			post := func(rt http.RoundTripper) func() {
				client := &http.Client{Transport: rt}
				return func() {
					resp, err := client.Post(server.URL+"/rest/crm.deal.add", c.contentType, strings.NewReader(c.body))
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						b.Error(err)
					}
					resp.Body.Close()
				}
			}
			b.Run(protocol+"/"+c.name, func(b *testing.B) {
				bare, ours := post(base), post(&b24oauth.Transport{Source: source, Base: base})
				waits := medianWaits(b, bare, ours)
				b.ReportMetric(waits[1]/waits[0], "x-wait")
				at32 := crowdTimes(b, 32, bare, ours)
				b.ReportMetric(at32[0]/at32[1], "x-rate-at-32")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// sourceAt returns b24oauth with a token that is valid for an hour at a portal
// whose methods are there.
func sourceAt(b *testing.B, endpoint string) *b24oauth.TokenSource {
	b.Helper()
	srv := b24test.NewMemoryServer()
	b.Cleanup(srv.Close)
	config, g := srv.Config(), srv.Install()
	g.ClientEndpoint = endpoint
	if err := config.Save(b.Context(), "portal", g); err != nil {
		b.Fatal(err)
	}
	return config.TokenSource("portal")
}

// medianWaits calls each function b.N times, one after the other, and returns
// the median of what each took.
func medianWaits(b *testing.B, calls ...func()) (medians []float64) {
	all := make([][]time.Duration, len(calls))
	for range max(b.N, 100) {
		for i, call := range calls {
			begun := time.Now()
			call()
			all[i] = append(all[i], time.Since(begun))
		}
	}
	for _, of := range all {
		medians = append(medians, float64(median(of)))
	}
	return medians
}

// crowdTimes lets n goroutines call each function b.N times altogether, in
// turns of 20 calls each, and returns the median of what a turn took.
func crowdTimes(b *testing.B, n int, calls ...func()) (medians []float64) {
	all := make([][]time.Duration, len(calls))
	for range max(b.N/(20*n), 10) {
		for i, call := range calls {
			begun := time.Now()
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					for range 20 {
						call()
					}
				})
			}
			wg.Wait()
			all[i] = append(all[i], time.Since(begun))
		}
	}
	for _, of := range all {
		medians = append(medians, float64(median(of)))
	}
	return medians
}

func median[T cmp.Ordered](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}
