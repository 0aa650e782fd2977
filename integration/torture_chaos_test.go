package integration

import (
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

	// suspicion is how long it takes to call a grant lost: longer than what
	// is still on its way, from a killed process to the database, takes to
	// arrive.
	suspicion = time.Second
)

// chaos is what happens to a fleet, and when.
type chaos struct {
	*fleet
	rng         *rand.Rand
	kills, cuts []int // the rounds in which one happens
}

// injury is something that happens a while after an expiry.
type injury struct {
	name  string
	after time.Duration
	do    func() // nil: the server is prepared already
}

func newChaos(f *fleet, o ordeal, seed uint64) *chaos {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &chaos{fleet: f, rng: rng, kills: rng.Perm(o.expiries)[:o.kills], cuts: rng.Perm(o.expiries)[:o.cuts]}
}

// round lets all tokens expire and hurts the fleet while it renews them.
func (c *chaos) round(n int, singleUse bool) {
	c.t.Helper()
	c.srv.SetSingleUse(singleUse)
	injuries := c.injuries(n)
	c.expire()
	r := &fleetRound{began: time.Now(), singleUse: singleUse, lost: make(map[string]bool)}
	slices.SortFunc(injuries, func(a, b injury) int { return int(a.after - b.after) })
	for _, i := range injuries {
		r.injuries = append(r.injuries, i.name)
		if i.do != nil {
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
// happen in the course of it.
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
		later("a process killed in its exchange", func() { c.killExchanging(pause) })
	default:
		later("a process killed", func() { c.kill(c.processes[victim]) })
	}
	return list
}

func (c *chaos) within(d time.Duration) time.Duration {
	return time.Duration(c.rng.Int64N(int64(d)))
}

func (c *chaos) oneIn(n int) bool { return c.rng.IntN(n) == 0 }

// killExchanging kills the process that sent the newest token request of the
// round, a while after it was seen; nobody if there is none.
func (c *chaos) killExchanging(later time.Duration) {
	limit := time.NewTimer(10 * injuryEnd)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if requests := c.srv.TokenRequests(); len(requests) > 0 {
			<-time.After(later)
			c.kill(c.all[requests[len(requests)-1].Header.Get(processHeader)])
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return
		}
	}
}

// suspect is a stored refresh token that seems to be used up for nothing.
type suspect struct {
	refresh string
	since   time.Time
}

// Why a grant was lost.
const (
	lostToKill = "a kill"
	lostToCut  = "an answer that did not arrive"
)

// replaceLost installs the application anew for every grant that is lost.
func (f *fleet) replaceLost(r *fleetRound) {
	f.t.Helper()
	now := time.Now()
	for _, key := range fleetKeys {
		refresh := f.stored(key).RefreshToken
		why := f.lostTo(refresh)
		s := f.suspects[key]
		switch {
		case why == "":
			delete(f.suspects, key)
		case s.refresh != refresh:
			f.suspects[key] = suspect{refresh, now}
		case now.Sub(s.since) >= suspicion:
			f.t.Logf("grant %q is lost to %s", key, why)
			r.lost[key] = true
			if why == lostToKill {
				f.tally.lostToKills++
			} else {
				f.tally.lostToCuts++
			}
			delete(f.suspects, key)
			f.install(key)
		}
	}
}

// lostTo returns to what the pair was lost that the refresh token was
// exchanged for; empty if it was not, or if somebody has it who lives. What
// counts is the log of the server, which must have refused the token since,
// and which process was killed or got no answer.
func (f *fleet) lostTo(refresh string) string {
	why, refused := "", false
	for _, r := range f.srv.TokenRequests() {
		if refreshOf(r) != refresh {
			continue
		}
		refused = refused || r.Code == "invalid_grant"
		if !mayHaveRotated(r) {
			continue
		}
		name := r.Header.Get(processHeader)
		fates := f.all[name].fates(refresh)
		switch {
		case f.killed[name]:
			why = lostToKill
		case slices.Contains(fates, heard):
			return ""
		case len(fates) > 0:
			why = lostToCut
		}
	}
	if !refused {
		return ""
	}
	return why
}
