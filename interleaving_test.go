package b24oauth_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

var (
	interleavings = flag.Int("interleavings", 3000, "how many random interleavings to run; an eighth of it with the race detector")
	firstSeed     = flag.Uint64("seed", 0, "the first interleaving's seed; 0: a random one")
)

// interleaving is one run: two processes, one Store, one server, and what
// befalls them in an order drawn by lot.
type interleaving struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	wire     *wire
	place    *place
	procs    [2]*member
	third    *b24oauth.Config // installs and removes, and never fails
	released chan struct{}
	calls    sync.WaitGroup

	mu       sync.Mutex // guards what follows
	log      []string
	failures []string
}

type member struct {
	*process
	config *b24oauth.Config
	source *b24oauth.TokenSource
}

func (r *interleaving) notef(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (r *interleaving) failf(format string, args ...any) {
	r.notef("FAILURE: "+format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *interleaving) start(i int) {
	p := r.place.process(string(rune('A'+i)), r.released)
	p.reenters = r.rng.IntN(2) == 0
	c := r.config(p)
	r.procs[i] = &member{process: p, config: c, source: c.TokenSource(key)}
}

func (r *interleaving) config(p *process) *b24oauth.Config {
	c := r.wire.srv.Config()
	c.Store = p
	c.HTTPClient = &http.Client{Transport: wirer{r.wire, p}}
	return c
}

func (r *interleaving) name(g *b24oauth.Grant) string {
	if g == nil {
		return "nothing"
	}
	l := r.wire.lineage(g.RefreshToken)
	return fmt.Sprintf("%d.%d", l.install, l.step)
}

// written judges a write: an installation's first is always right, and else
// only a descendant of what is there.
func (r *interleaving) written(by *process, before, after *b24oauth.Grant) string {
	r.notef("%s stores %s over %s", by.name, r.name(after), r.name(before))
	if after == nil {
		return ""
	}
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	to := r.wire.tokens[after.RefreshToken]
	first := to.step == 0 && !to.written
	to.written = true
	switch {
	case first:
		return ""
	case before == nil:
		return fmt.Sprintf("%s brought %d.%d back to life after its removal", by.name, to.install, to.step)
	}
	from := r.wire.tokens[before.RefreshToken]
	if from.install != to.install || from.step > to.step {
		return fmt.Sprintf("%s overwrote %d.%d with %d.%d", by.name, from.install, from.step, to.install, to.step)
	}
	return ""
}

// goAs has a process do something beside all else. A killed one is not waited
// for.
func (r *interleaving) goAs(p *process, do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	r.calls.Go(func() {
		select {
		case <-done:
		case <-p.killed:
		}
	})
}

// call asks for a token beside whatever else goes on, and judges the answer.
func (r *interleaving) call(m *member, limit time.Duration, refused *oauth2.Token) {
	ctx, cancel := context.WithCancel(context.Background())
	if limit > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), limit)
	}
	r.goAs(m.process, func() {
		defer cancel()
		start := time.Now()
		var err error
		if refused != nil {
			_, err = m.source.Renew(ctx, refused)
		} else {
			_, err = m.source.TokenContext(ctx)
		}
		if !m.alive() {
			return
		}
		took := time.Since(start)
		r.notef("%s: call of %v ago returns %v", m.name, took, err)
		if limit > 0 && took > limit || took > 65*time.Second {
			r.failf("%s: a call with limit %v took %v", m.name, limit, took)
		}
		r.judge(m, err)
	})
}

// judge finds errors that are called permanent and are not: a second is what
// a source may take to look at the Store again, and RefreshTimeout what it
// waits for the pair of a holder that seems to have been killed.
func (r *interleaving) judge(m *member, err error) {
	var te *b24oauth.TokenError
	if !errors.As(err, &te) || !te.Permanent() || errors.Is(err, b24oauth.ErrPaymentRequired) {
		return
	}
	g, since := r.place.stored()
	if g == nil || time.Since(since) < 1100*time.Millisecond {
		return
	}
	l := r.wire.lineage(g.RefreshToken)
	last := r.wire.newest(l.install)
	switch {
	case l.alive:
		r.failf("%s: false permanent error %v: the Store holds %s since %v", m.name, err, r.name(g), since)
	case l.step < last.step && !last.lost && last.by.alive() && time.Since(last.at) < 15*time.Second && m.started.Before(last.at):
		r.failf("%s: false permanent error %v: %s has %d.%d and is about to save it", m.name, err, last.by.name, last.install, last.step)
	}
}

// step does one thing, drawn by lot.
func (r *interleaving) step() {
	m := r.procs[r.rng.IntN(2)]
	switch n := r.rng.IntN(26); n {
	default: // the usual thing
		limit := []time.Duration{0, 20 * time.Millisecond, 3 * time.Second}[r.rng.IntN(3)]
		r.notef("%s: call, limit %v", m.name, limit)
		r.call(m, limit, nil)
	case 0, 1:
		g, err := m.source.Grant(context.Background())
		r.notef("%s: token of %s is refused", m.name, r.name(g))
		if err == nil && g.AccessToken != "" {
			r.call(m, 0, g.Token())
		}
	case 2, 3:
		m.mu.Lock()
		m.failSaves = 1 + r.rng.IntN(12)
		r.notef("%s: %d saves will fail", m.name, m.failSaves)
		m.mu.Unlock()
	case 4:
		m.mu.Lock()
		m.lostAcks = 1
		m.mu.Unlock()
		r.notef("%s: a save will succeed and not say so", m.name)
	case 5:
		m.mu.Lock()
		m.failLoads = 1 + r.rng.IntN(3)
		m.mu.Unlock()
		r.notef("%s: the Store will fail", m.name)
	case 6, 7:
		r.notef("the lease is lost")
		r.place.expireLease()
	case 8:
		r.notef("%s is killed and started again", m.name)
		close(m.killed)
		if m == r.procs[0] {
			r.start(0)
		} else {
			r.start(1)
		}
	case 9:
		r.notef("an answer will be cut")
		r.wire.mu.Lock()
		r.wire.cut = 1
		r.wire.mu.Unlock()
	case 10, 11, 12:
		d := []time.Duration{300 * time.Millisecond, 5 * time.Second, 14 * time.Second, 20 * time.Second}[r.rng.IntN(4)]
		r.notef("an answer will come after %v", d)
		r.wire.mu.Lock()
		r.wire.delays = append(r.wire.delays, d)
		r.wire.mu.Unlock()
	case 13:
		r.notef("the application is installed again, by another process")
		r.save(r.third.Store.(*process), r.third)
	case 14:
		r.notef("%s: the application is installed again", m.name)
		r.save(m.process, m.config)
	case 15:
		if r.rng.IntN(2) == 0 {
			break
		}
		r.notef("the grant is removed")
		r.calls.Go(func() {
			_ = r.third.Store.Update(context.Background(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				return nil, b24oauth.ErrDelete
			})
		})
	case 16:
		answer := []b24test.Answer{{}, {Status: 429, Header: http.Header{"Retry-After": {"7"}}}, {Status: 401, Body: `{"error":"PAYMENT_REQUIRED"}`}}[r.rng.IntN(3)]
		n := 1 + r.rng.IntN(4)
		r.notef("%d answers will be %d", n, answer.Status)
		r.wire.srv.FailTokens(n, answer)
	case 18, 19, 20:
		r.stall()
	case 17:
		r.notef("%s: Flush", m.name)
		r.goAs(m.process, func() { _ = m.config.Flush(context.Background()) })
	}
	pauses := []time.Duration{0, 0, 10 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 9 * time.Second, 25 * time.Second, 40 * time.Second, 10 * time.Minute, time.Hour}
	<-time.After(pauses[r.rng.IntN(len(pauses))])
}

// stall has the token run out, one process lose its lease in the middle of an
// exchange, and the other one take over.
func (r *interleaving) stall() {
	short := func() time.Duration {
		return []time.Duration{0, time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 10 * time.Second}[r.rng.IntN(5)]
	}
	<-time.After(time.Hour)
	r.notef("two processes renew at once, and the lease is lost")
	r.wire.mu.Lock()
	r.wire.delays = []time.Duration{short(), short()}
	r.wire.mu.Unlock()
	first := r.rng.IntN(2)
	r.call(r.procs[first], 0, nil)
	<-time.After(short())
	r.place.expireLease()
	if r.rng.IntN(3) == 0 {
		r.notef("the one that takes over is answered 500")
		r.wire.srv.FailTokens(3, b24test.Answer{})
	}
	r.call(r.procs[1-first], 0, nil)
	<-time.After(short())
	r.call(r.procs[1-first], 0, nil)
	<-time.After(short())
}

func (r *interleaving) save(p *process, c *b24oauth.Config) {
	g := r.wire.install()
	r.goAs(p, func() {
		if err := c.Save(context.Background(), key, g); err != nil {
			r.notef("Save of %s: %v", r.name(g), err)
		}
	})
}

// settle lets all faults end and time pass, and checks what is left.
func (r *interleaving) settle() {
	r.wire.srv.FailTokens(0, b24test.Answer{})
	r.wire.mu.Lock()
	r.wire.cut, r.wire.delays = 0, nil
	r.wire.mu.Unlock()
	for _, m := range r.procs {
		m.mu.Lock()
		m.failSaves, m.lostAcks, m.failLoads = 0, 0, 0
		m.mu.Unlock()
	}
	r.calls.Wait()
	r.notef("peace")
	for range 3 {
		for _, m := range r.procs {
			<-time.After(11 * time.Minute)
			r.call(m, 0, nil)
			r.calls.Wait()
			if err := m.config.Flush(context.Background()); err != nil {
				r.failf("%s: Flush in peace: %v", m.name, err)
			}
		}
		<-time.After(2 * time.Hour)
	}
	for _, m := range r.procs {
		before := r.wire.count()
		_, err := m.source.Token()
		r.judgeEnd(m, err, r.wire.count()-before)
	}
	r.place.mu.Lock()
	defer r.place.mu.Unlock()
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	for _, complaint := range append(r.place.reports, r.wire.unsaved...) {
		r.failf("%s", complaint)
	}
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

func (r *interleaving) judgeEnd(m *member, err error, requests int) {
	g, _ := r.place.stored()
	r.notef("the Store holds %s", r.name(g))
	if g == nil {
		if !errors.Is(err, b24oauth.ErrNoGrant) {
			r.failf("%s: nothing is stored and the error is %v", m.name, err)
		}
		return
	}
	l := r.wire.lineage(g.RefreshToken)
	if l.alive {
		if err != nil {
			r.failf("%s: the Store holds the live %s and the error is %v", m.name, r.name(g), err)
		}
		return
	}
	if last := r.wire.newest(l.install); !last.lost && (last.by == nil || last.by.alive()) {
		r.failf("%s: %d.%d is lost, which no kill and no lost answer explains; the Store holds %s", m.name, last.install, last.step, r.name(g))
	}
	if !errors.Is(err, b24oauth.ErrReauthorize) || requests > 0 {
		r.failf("%s: the grant is dead, the error is %v, after %d requests", m.name, err, requests)
	}
}

func runInterleaving(t *testing.T, seed uint64, steps int) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		r := &interleaving{
			t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)),
			wire:     &wire{srv: srv, base: srv.Client().Transport, tokens: make(map[string]*lineage)},
			released: make(chan struct{}),
		}
		r.place = &place{written: r.written}
		r.third = r.config(r.place.process("third", r.released))
		r.start(0)
		r.start(1)
		if err := r.third.Save(t.Context(), key, r.wire.install()); err != nil {
			t.Fatal(err)
		}
		for range steps {
			r.step()
		}
		r.settle()
		close(r.released)
		<-time.After(2 * time.Minute) // until the killed processes' flights end, too
		if len(r.failures) > 0 {
			t.Errorf("seed %d: %s\n%s", seed, strings.Join(r.failures, "\n"), strings.Join(r.log, "\n"))
		}
	})
}

func TestNoInterleavingLosesOverwritesOrRevivesAGrant(t *testing.T) {
	first := *firstSeed
	if first == 0 {
		first = rand.Uint64N(1e12)
	}
	runs := uint64(*interleavings)
	if raceEnabled {
		runs /= 8
	}
	t.Logf("%d interleavings from -seed=%d", runs, first)
	for seed := first; seed < first+runs && !t.Failed(); seed++ {
		runInterleaving(t, seed, 24)
	}
}
