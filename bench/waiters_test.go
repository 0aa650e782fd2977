package bench

import (
	"context"
	"io"
	"net/http"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// BenchmarkWaiters is how long the last of 10,000 callers who met an expired
// token waits, from the moment that the token server's answer is there: for
// smithy's cache, which hands the token out and does nothing else, for a
// TokenSource, which reads the answer and stores the pair first, and for
// Transport, which sends a request with the token as well. The three take
// turns, and the medians are told as multiples of smithy's.
//
//	go test -run '^$' -bench Waiters -benchtime 50x .
func BenchmarkWaiters(b *testing.B) {
	const callers = 10_000
	contestants := []func(*testing.B, *pending) func(context.Context) error{smithyWaits, sourceWaits, transportWaits}
	all := make([][]time.Duration, len(contestants))
	for range b.N {
		for i, over := range contestants {
			p := &pending{comes: make(chan struct{})}
			all[i] = append(all[i], p.last(b, callers, over(b, p)))
		}
	}
	smithy := median(all[0])
	b.ReportMetric(float64(median(all[1]))/float64(smithy), "source/smithy")
	b.ReportMetric(float64(median(all[2]))/float64(smithy), "Transport/smithy")
	b.ReportMetric(float64(smithy)/callers, "ns/caller-of-smithy")
	b.ReportMetric(0, "ns/op")
}

// pending is a token server's answer that is on its way.
type pending struct {
	comes chan struct{} // closed when it is to be there
	at    time.Time     // when whoever fetches it has got it
}

func (p *pending) wait() {
	<-p.comes
	p.at = time.Now()
}

// last returns how long the last of so many callers waits for the answer.
func (p *pending) last(b *testing.B, callers int, call func(context.Context) error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if err := call(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
	for asleep() < callers {
		time.Sleep(time.Millisecond)
	}
	close(p.comes)
	wg.Wait()
	return time.Since(p.at)
}

// asleep returns how many goroutines wait for something, a few of the runtime's
// own among them.
func asleep() int {
	waiting := []metrics.Sample{{Name: "/sched/goroutines/waiting:goroutines"}}
	metrics.Read(waiting)
	return int(waiting[0].Value.Uint64())
}

func smithyWaits(b *testing.B, p *pending) func(context.Context) error {
	b.Helper()
	next := func() (token, error) { return token{"expired", time.Now().Add(-lifetime)}, nil }
	call := overSmithy(func(context.Context) (token, error) { return next() }, 0)
	if err := call(b.Context()); err != nil {
		b.Fatal(err)
	}
	next = func() (token, error) {
		p.wait()
		return token{"next", p.at.Add(lifetime)}, nil
	}
	return call
}

func sourceWaits(b *testing.B, p *pending) func(context.Context) error {
	b.Helper()
	source := newExpired(b, p)
	return func(ctx context.Context) error {
		_, err := source.TokenContext(ctx)
		return err
	}
}

func transportWaits(b *testing.B, p *pending) func(context.Context) error {
	b.Helper()
	t := &b24oauth.Transport{Source: newExpired(b, p), Base: stub}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, waitersEndpoint+"crm.deal.list", nil)
		if err != nil {
			return err
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}

const waitersEndpoint = "https://example.bitrix24.com/rest/"

// newExpired returns b24oauth with a token that has run out, and that the
// answer replaces.
func newExpired(b *testing.B, p *pending) *b24oauth.TokenSource {
	b.Helper()
	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", Store: new(b24oauth.MemoryStore)}
	config.TokenClient = &http.Client{Transport: tripper(func(req *http.Request) (*http.Response, error) {
		p.wait()
		const body = `{"access_token":"next","refresh_token":"after-next","expires_in":3600,"client_endpoint":"` + waitersEndpoint + `"}`
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	})}
	now := time.Now()
	err := config.Save(b.Context(), "portal", &b24oauth.Grant{
		ClientEndpoint: waitersEndpoint,
		AccessToken:    "expired",
		RefreshToken:   "refresh",
		Issued:         now.Add(-2 * lifetime),
		Expiry:         now.Add(-lifetime),
	})
	if err != nil {
		b.Fatal(err)
	}
	return config.TokenSource("portal")
}
