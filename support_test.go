package b24oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// key is the name of the grant that most tests have.
const key = "portal"

// What a Config writes into a grant beside what it was given: where it
// descends from, and the server's verdict.
var (
	butForItsLineage = cmpopts.IgnoreFields(b24oauth.Grant{}, "Lineage")
	butForItsVerdict = cmpopts.IgnoreFields(b24oauth.Grant{}, "Lineage", "Refused")
)

// program is a program under test: a Config on the servers of b24test, with
// one grant stored.
type program struct {
	*b24test.Server
	config *b24oauth.Config
	source *b24oauth.TokenSource
	client *http.Client
}

// newProgram starts one in memory, so that it also runs in a synctest bubble.
func newProgram(t *testing.T, change ...func(*b24oauth.Config)) *program {
	t.Helper()
	p := newProgramWithoutGrant(t, change...)
	if err := p.config.Save(context.Background(), key, p.Install()); err != nil {
		t.Fatal(err)
	}
	return p
}

func newProgramWithoutGrant(t *testing.T, change ...func(*b24oauth.Config)) *program {
	t.Helper()
	srv := b24test.NewMemoryServer()
	t.Cleanup(srv.Close)
	p := &program{Server: srv}
	p.restart(change...)
	return p
}

// restart makes the Config anew, as a new process on the same Store does if
// change sets that.
func (p *program) restart(change ...func(*b24oauth.Config)) {
	p.config = p.Config()
	for _, f := range change {
		f(p.config)
	}
	p.source = p.config.TokenSource(key)
	p.client = &http.Client{Transport: &b24oauth.Transport{Source: p.source, Base: p.Client().Transport}}
}

// status returns a response's status and lets its connection go.
func status(t *testing.T, resp *http.Response, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// eventLog notes events.
type eventLog struct {
	mu     sync.Mutex // guards events
	events []b24oauth.Event
}

func (d *eventLog) note(_ context.Context, e b24oauth.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// kinds returns the events' kinds in order, and forgets them.
func (d *eventLog) kinds() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var kinds []string
	for _, e := range d.events {
		kinds = append(kinds, e.Kind.String())
	}
	d.events = nil
	return kinds
}

func (d *eventLog) want(t *testing.T, kinds ...string) {
	t.Helper()
	if diff := cmp.Diff(kinds, d.kinds()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// stored returns the grant in the program's Store.
func stored(t *testing.T, p *program) *b24oauth.Grant {
	t.Helper()
	g, err := p.config.Store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// token returns the source's access token, which there must be.
func token(t *testing.T, s *b24oauth.TokenSource) string {
	t.Helper()
	tok, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	return tok.AccessToken
}

// wantFailure checks that there is no token, for this kind of reason, within
// this time.
func wantFailure(t *testing.T, s *b24oauth.TokenSource, kind error, within time.Duration) *b24oauth.TokenError {
	t.Helper()
	start := time.Now()
	_, err := s.Token()
	var te *b24oauth.TokenError
	if !errors.As(err, &te) || !errors.Is(err, kind) || time.Since(start) > within {
		t.Fatalf("Token failed after %v with %v; want %v within %v", time.Since(start), err, kind, within)
	}
	return te
}

func wantRefreshes(t *testing.T, p *program, want int) {
	t.Helper()
	if got := p.Refreshes(); got != want {
		t.Errorf("%d refreshes, want %d", got, want)
	}
}

func wantRequests(t *testing.T, p *program, want int) {
	t.Helper()
	if got := len(p.TokenRequests()); got != want {
		t.Errorf("%d requests to the authorization server, want %d", got, want)
	}
}

// with makes a Config use a Store and an eventLog.
func with(s b24oauth.Store, d *eventLog) func(*b24oauth.Config) {
	return func(c *b24oauth.Config) {
		c.Store = s
		if d != nil {
			c.OnEvent = d.note
		}
	}
}

// together has n callers ask for a token at once, and returns when the last
// of them has an answer.
func together(n int, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i) })
	}
	wg.Wait()
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// unsaved returns a program that has a pair in memory only, and its Store.
func unsaved(t *testing.T) (p *program, s *faultyStore, next string) {
	s = newFaultyStore()
	p = newProgram(t, with(s, nil))
	<-time.After(2 * time.Hour)
	s.failSaves()
	next = token(t, p.source)
	<-time.After(11 * time.Second)
	s.onUpdate(nil)
	return p, s, next
}

// accept makes a call that the portal serves, and forgets it.
func (p *program) accept(t *testing.T) {
	t.Helper()
	resp, err := p.client.Get(p.Endpoint() + "profile")
	if got := status(t, resp, err); got != 200 {
		t.Fatalf("status %d, want 200", got)
	}
	p.Reset()
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
