package integration

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/b24go/b24oauth"
)

const (
	// maxStop is how long a process stands still that does so for less than
	// its lease: longer than an exchange may take.
	maxStop = 2 * brief

	purgeBound = time.Second      // of the waiting for exclusivity
	belowBound = 30 * time.Second // of a look below a Store
)

// stop stops a process for the time d. It goes on, as after a pause of its
// machine, with all that it was about to do.
func (c *chaos) stop(r *fleetRound, after, d time.Duration, victim func() *fleetProcess) []injury {
	var p *fleetProcess
	name := "a process stopped for " + d.Round(time.Millisecond).String()
	return []injury{
		{name, after, func() {
			if p = victim(); p != nil {
				c.signal(p, syscall.SIGSTOP)
				c.tally.stops++
				if d > c.task.Store.Lease {
					r.stalled[p.name] = true
				}
			}
		}},
		{"it goes on", after + d, func() {
			if p != nil {
				c.signal(p, syscall.SIGCONT)
			}
		}},
	}
}

func (c *chaos) signal(p *fleetProcess, s syscall.Signal) {
	c.t.Helper()
	if c.killed[p.name] || p.hasEnded() {
		return
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		c.t.Errorf("process %s: %v: %v", p.name, s, err)
	}
}

// exchanging returns the process that sent the newest token request of the
// round, a while after it was seen; nil if there is none.
func (c *chaos) exchanging(later time.Duration) *fleetProcess {
	limit := time.NewTimer(10 * injuryEnd)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if requests := c.srv.TokenRequests(); len(requests) > 0 {
			<-time.After(later)
			p := c.all[requests[len(requests)-1].Header.Get(processHeader)]
			if slices.Contains(c.processes, p) {
				return p
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return nil
		}
	}
}

// restart has a process end by itself, as a new version is brought out:
// another one is started at once.
func (f *fleet) restart(p *fleetProcess) {
	f.t.Helper()
	for i := range f.processes {
		if f.processes[i] == p {
			p.stdin.Close()
			f.leaving = append(f.leaving, p)
			f.tally.restarts++
			f.processes[i] = f.start()
			return
		}
	}
}

// delivery is an installation that was delivered to a process once more.
type delivery struct {
	process *fleetProcess
	order   int
	key     string
	anew    bool // it may be taken: what it is older than was taken away
}

// deliverAgain delivers an installation once more that is no longer what is
// stored.
func (f *fleet) deliverAgain(r *fleetRound, p *fleetProcess, key string, g *b24oauth.Grant) {
	f.t.Helper()
	if now := f.stored(key); now != nil && now.RefreshToken == g.RefreshToken {
		return // it is the stored one, which may be saved again
	}
	f.tally.deliveries++
	r.deliveries = append(r.deliveries, delivery{p, p.order(f.t, key, g), key, false})
}

// delivered reports whether every delivery has come to something, and checks
// what it has.
func (f *fleet) delivered(r *fleetRound) bool {
	f.t.Helper()
	r.deliveries = slices.DeleteFunc(r.deliveries, func(d delivery) bool {
		done, ok := d.process.outcome(d.order)
		switch {
		case !ok:
			return d.process.hasEnded()
		case done.Outdated, done.Passing, r.hurt[d.key] && done.Text == "":
		default:
			f.t.Errorf("grant %q: an installation delivered once more to %s is answered %q; want ErrOutdated", d.key, d.process.name, done.Text)
		}
		return true
	})
	return len(r.deliveries) == 0
}

// setBack puts a former image of the grant in its place.
func (f *fleet) setBack(r *fleetRound, key string, former image) {
	f.t.Helper()
	f.hurtStore(r, key, func(ctx context.Context) error { return f.below.write(ctx, key, former) })
	f.tally.setBacks++
}

// empty takes the grant away, with the lease on it.
func (f *fleet) empty(r *fleetRound, key string) {
	f.t.Helper()
	f.hurtStore(r, key, func(ctx context.Context) error { return f.below.remove(ctx, key) })
	f.tally.emptied++
}

// purge takes the grant away as a maintenance program does that overlooks the
// processes that run.
func (f *fleet) purge(r *fleetRound, key string) {
	f.t.Helper()
	f.hurtStore(r, key, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, purgeBound)
		defer cancel()
		err := f.store.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			return nil, b24oauth.ErrDelete
		})
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, b24oauth.ErrConflict) {
			return nil // somebody has it for himself, and then nothing happens
		}
		return err
	})
	f.tally.emptied++
}

func (f *fleet) hurtStore(r *fleetRound, key string, do func(context.Context) error) {
	f.t.Helper()
	r.hurt[key] = true
	ctx, cancel := context.WithTimeout(f.t.Context(), belowBound)
	defer cancel()
	if err := do(ctx); err != nil {
		f.t.Errorf("grant %q: the Store cannot be set back or emptied: %v", key, err)
	}
}

// remember keeps what is stored after a round, to set the Store back to.
func (f *fleet) remember() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), belowBound)
	defer cancel()
	for _, key := range fleetKeys {
		i, err := f.below.read(ctx, key)
		if err != nil || i.data == "" {
			f.t.Fatalf("grant %q is stored, but below the Store there is %q, %v", key, i.fence, err)
		}
		f.former[key] = append(f.former[key], i)
	}
}
