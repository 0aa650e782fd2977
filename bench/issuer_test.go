package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	lifetime = time.Hour   // of a token
	early    = time.Minute // before its expiry it is renewed, if the scenario is about that
)

// conditions are what a scenario begins with.
type conditions struct {
	left  time.Duration // until the cached token expires; negative: it has
	takes time.Duration // how long a request for a token takes
	ends  outcome
}

// outcome is how a request for a token ends.
type outcome int

const (
	issued  outcome = iota
	refused         // for good: the refresh token is not known
	failed          // by itself: the server has a bad day
)

// early returns what the library's option for early expiry is set to; 0 leaves
// it alone.
func (c conditions) early() time.Duration {
	if c.left > 0 {
		return early
	}
	return 0
}

// tally counts requests for tokens.
type tally struct {
	mu                   sync.Mutex // guards what follows
	calls, running, peak int
}

// begin counts a request and returns what ends it.
func (n *tally) begin() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	n.running++
	n.peak = max(n.peak, n.running)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.running--
	}
}

func (n *tally) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls, n.peak = 0, n.running
}

// counts returns the number of requests, and how many ran at once.
func (n *tally) counts() (calls, peak int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls, n.peak
}

// over counts what passes through base.
func (n *tally) over(base http.RoundTripper) http.RoundTripper {
	return tripper(func(req *http.Request) (*http.Response, error) {
		defer n.begin()()
		return base.RoundTrip(req)
	})
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// issuer stands for the authorization server of a library that leaves the
// request for a token to its user.
type issuer struct {
	tally
	life  time.Duration // of the next token
	takes time.Duration
	ends  outcome
}

// token is what an issuer gives out.
type token struct {
	value  string
	expiry time.Time
}

// fetch asks for a token. Like a request by net/http it ends with ctx.
func (i *issuer) fetch(ctx context.Context) (token, error) {
	defer i.begin()()
	select {
	case <-time.After(i.takes):
	case <-ctx.Done():
		return token{}, ctx.Err()
	}
	if i.ends != issued {
		return token{}, errors.New("the server issued no token")
	}
	calls, _ := i.counts()
	return token{fmt.Sprintf("token-%d", calls), time.Now().Add(i.life)}, nil
}

// subject is a library with a token in its cache, and what was asked of the
// server since.
type subject struct {
	call   func(context.Context) error // gets a token
	counts func() (calls, peak int)
	steps  func() []step // the renewals that failed, once none is in flight; nil if the library has no notion of one
}

// step is a renewal that failed, of one or several requests.
type step struct {
	begin, end time.Time
	requests   int
}

// library is one that is compared.
type library struct {
	name string

	// over builds the library's cache over fetch, as its users do, and returns
	// what gets a token from it. early is for its option of early expiry; 0: its
	// default.
	over func(fetch func(context.Context) (token, error), early time.Duration) func(context.Context) error

	// mutex: while one caller fetches, the others wait for a sync.Mutex. The
	// clock of a bubble of testing/synctest stands still as long as anybody
	// does, so the fetch would never end in one.
	mutex bool
}

// open returns the library as the conditions have it. In a bubble the token
// grows old in its cache. Elsewhere there is no time for that, so it arrives
// with what is left of its life, or expired.
func (l library) open(t *testing.T, c conditions, bubble bool) *subject {
	t.Helper()
	i := &issuer{life: lifetime}
	if !bubble {
		i.life = c.left
	}
	call := l.over(i.fetch, c.early())
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bubble {
		<-time.After(lifetime - c.left)
	}
	i.reset()
	i.life, i.takes, i.ends = lifetime, c.takes, c.ends
	return &subject{call: call, counts: i.counts}
}
