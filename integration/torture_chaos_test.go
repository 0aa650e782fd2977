package integration

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/b24go/b24oauth/b24test"
)

const (
	maxDelay  = 300 * time.Millisecond // of an answer
	injuryEnd = 150 * time.Millisecond // after an expiry; renewals have begun by then
)

// chaos is what happens to a fleet, and when.
type chaos struct {
	*fleet
	rng *rand.Rand

	// The rounds in which each of them happens.
	kills, cuts, stops, stalls, restarts, deliveries, setBacks, empties []int
}

// injury is something that happens a while after an expiry.
type injury struct {
	name  string
	after time.Duration // negative: before the expiry
	do    func()        // nil: the server is prepared already
}

func newChaos(f *fleet, o ordeal, seed uint64) *chaos {
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds := func(n int) []int { return rng.Perm(o.expiries)[:n] }
	return &chaos{
		fleet: f, rng: rng,
		kills: rounds(o.kills), cuts: rounds(o.cuts),
		stops: rounds(o.stops), stalls: rounds(o.stalls), restarts: rounds(o.restarts),
		deliveries: rounds(o.deliveries), setBacks: rounds(o.setBacks), empties: rounds(o.empties),
	}
}

// round lets all tokens expire and hurts the fleet while it renews them.
func (c *chaos) round(n int, singleUse bool) {
	c.t.Helper()
	c.endPauses()
	c.remember()
	c.srv.SetSingleUse(singleUse)
	r := newRound()
	r.singleUse = singleUse
	injuries := c.injuries(n)
	injuries = append(injuries, c.processInjuries(r, n)...)
	injuries = append(injuries, c.storeInjuries(r, n)...)
	slices.SortStableFunc(injuries, func(a, b injury) int { return cmp.Compare(a.after, b.after) })
	for _, i := range injuries {
		r.injuries = append(r.injuries, i.name)
		if i.after < 0 {
			i.do()
		}
	}
	c.expire()
	r.began = time.Now()
	for _, i := range injuries {
		if i.do != nil && i.after >= 0 {
			<-time.After(time.Until(r.began.Add(i.after)))
			i.do()
		}
	}
	c.settle(r)
	c.srv.CutTokens(0)
	c.srv.DelayTokens(0, 0)
	c.srv.FailTokens(0, b24test.Answer{})
}

// injuries prepares the server for the n-th round and returns what is to
// happen to what runs in the course of it.
func (c *chaos) injuries(n int) []injury {
	var list []injury
	already := func(name string, args ...any) { list = append(list, injury{name: fmt.Sprintf(name, args...)}) }
	later := func(name string, do func()) { list = append(list, injury{name, c.within(injuryEnd), do}) }
	outage := func() time.Duration { return maxDelay/3 + c.within(maxDelay) }

	kill, delay := slices.Index(c.kills, n), time.Duration(0)
	if kill >= 0 || c.oneIn(2) {
		answers := 1 + c.rng.IntN(2*len(fleetKeys))
		delay = c.within(maxDelay)
		already("%d answers %v late", answers, delay)
		c.srv.DelayTokens(answers, delay)
	}
	if slices.Contains(c.cuts, n) {
		already("an answer cut")
		c.srv.CutTokens(1)
	} else if c.oneIn(4) {
		answers := 1 + c.rng.IntN(3)
		already("%d answers 503", answers)
		c.srv.FailTokens(answers, b24test.Answer{Status: http.StatusServiceUnavailable})
	}
	if down := outage(); c.oneIn(8) {
		later("the authorization server restarted", func() { c.authorization.restart(down) })
	}
	if down := outage(); c.oneIn(4) && c.database != nil {
		later("the database restarted", func() { c.database.restart(down) })
	}
	switch victim, pause := c.rng.IntN(fleetSize), c.within(delay+delay/4+1); {
	case kill < 0:
	case kill%2 == 0:
		// Whoever exchanges a token now, while the server takes its time or
		// shortly after.
		later("a process killed in its exchange", func() {
			if p := c.exchanging(pause); p != nil {
				c.kill(p)
			}
		})
	default:
		later("a process killed", func() { c.kill(c.processes[victim]) })
	}
	return list
}

// processInjuries returns what is to happen to processes that live on, or end
// by themselves.
func (c *chaos) processInjuries(r *fleetRound, n int) []injury {
	var list []injury
	later := func(name string, do func()) { list = append(list, injury{name, c.within(injuryEnd), do}) }
	after, pause, victim := c.within(injuryEnd), c.within(maxDelay), c.rng.IntN(fleetSize)
	exchanging := func() *fleetProcess { return c.exchanging(pause) }
	switch stop := slices.Index(c.stops, n); {
	case slices.Contains(c.stalls, n):
		list = append(list, c.stop(r, after, c.task.Store.Lease+brief, exchanging)...)
	case stop < 0:
	case stop%4 < 3:
		list = append(list, c.stop(r, after, c.within(maxStop), exchanging)...)
	default:
		list = append(list, c.stop(r, after, c.within(maxStop), func() *fleetProcess { return c.processes[victim] })...)
	}
	if victim := c.rng.IntN(fleetSize); slices.Contains(c.restarts, n) {
		later("a process restarted", func() { c.restart(c.processes[victim]) })
	}
	victim, key := c.rng.IntN(fleetSize), c.anyKey()
	if slices.Contains(c.deliveries, n) {
		g := anyOf(c, c.installs[key])
		later("an installation delivered again", func() { c.deliverAgain(r, c.processes[victim], key, g) })
	}
	return list
}

// storeInjuries returns what is to happen to the Store, below it. A refresh
// token that works more than once makes two pairs of one, of which neither is
// newer, so then it happens while nobody exchanges one.
func (c *chaos) storeInjuries(r *fleetRound, n int) []injury {
	var list []injury
	add := func(name string, do func()) {
		after := c.within(2*injuryEnd) - injuryEnd
		if !r.singleUse {
			after = -1
		}
		list = append(list, injury{name, after, do})
	}
	key := c.anyKey()
	former := anyOf(c, c.former[key])
	if slices.Contains(c.setBacks, n) {
		add("the Store set back", func() { c.setBack(r, key, former) })
	}
	victim, empty := c.anyKey(), c.empty
	if c.oneIn(2) {
		empty = c.purge
	}
	if slices.Contains(c.empties, n) {
		add("the Store emptied", func() { empty(r, victim) })
	}
	return list
}

func (c *chaos) anyKey() string { return anyOf(c, fleetKeys) }

func anyOf[T any](c *chaos, list []T) T { return list[c.rng.IntN(len(list))] }

func (c *chaos) within(d time.Duration) time.Duration {
	return time.Duration(c.rng.Int64N(int64(d)))
}

func (c *chaos) oneIn(n int) bool { return c.rng.IntN(n) == 0 }
