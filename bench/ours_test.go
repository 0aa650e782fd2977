package bench

import (
	"context"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// ours is the name of our column.
const ours = "b24oauth"

// openOurs returns b24oauth as the conditions have it, over the whole way to a
// server in memory and with its defaults: the early expiry of the others is
// its own.
func openOurs(t *testing.T, c conditions) *subject {
	t.Helper()
	srv := b24test.NewMemoryServer()
	t.Cleanup(srv.Close)
	var sent tally
	var failures failures
	config := srv.Config()
	config.TokenClient = &http.Client{Transport: sent.over(config.TokenClient.Transport)}
	config.Store = new(b24oauth.MemoryStore)
	config.OnEvent = failures.add
	source := newSource(t, srv, config)
	<-time.After(lifetime - c.left)

	srv.DelayTokens(math.MaxInt, c.takes)
	switch c.ends {
	case refused:
		srv.KillGrants()
	case failed:
		srv.FailTokens(math.MaxInt, b24test.Answer{Status: http.StatusServiceUnavailable})
	}
	return &subject{
		call: func(ctx context.Context) error {
			_, err := source.TokenContext(ctx)
			return err
		},
		// The server's word on the calls: it would also see those that
		// net/http sends by itself.
		counts: func() (calls, peak int) {
			_, peak = sent.counts()
			return len(srv.TokenRequests()), peak
		},
		steps: func() []step {
			if err := config.Flush(context.Background()); err != nil { // waits for the renewal in flight
				t.Error(err)
			}
			return failures.steps()
		},
	}
}

// newSource returns a source that has its token, fresh from an installation.
func newSource(tb testing.TB, srv *b24test.Server, config *b24oauth.Config) *b24oauth.TokenSource {
	tb.Helper()
	const key = "portal"
	if err := config.Save(tb.Context(), key, srv.Install()); err != nil {
		tb.Fatal(err)
	}
	source := config.TokenSource(key)
	if _, err := source.Token(); err != nil {
		tb.Fatal(err)
	}
	return source
}

// failures are the renewals that failed.
type failures struct {
	mu   sync.Mutex // guards what follows
	seen []step
}

func (f *failures) add(_ context.Context, e b24oauth.Event) {
	if e.Kind != b24oauth.EventRenewFailed {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, step{begin: now.Add(-e.Duration), end: now, requests: e.Attempts})
}

func (f *failures) steps() []step {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}
