package integration

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
)

const (
	burst    = 100 * time.Millisecond // of equal failures, which count as one
	maxTexts = 50                     // that a report quotes
)

// fleetReport is what became of the calls of a process.
type fleetReport struct {
	Process   string
	Succeeded int
	Transient int            // TokenErrors that pass by themselves
	Texts     map[string]int // of these
	Failures  []fleetFailure // any other outcome, in the order of time
	Flush     string         // the error of Flush; empty: none
}

// fleetFailure is a call that was answered with neither success nor a
// TokenError that passes; or several, if equal ones came in a burst.
type fleetFailure struct {
	Key, Text string
	At        time.Time // of the first
	Count     int
}

// note enters the outcome of one call.
func (r *fleetReport) note(key string, err error, now time.Time) {
	if err == nil {
		r.Succeeded++
		return
	}
	text := err.Error()
	if te := new(b24oauth.TokenError); errors.As(err, &te) && errors.Is(err, b24oauth.ErrUnavailable) {
		r.Transient++
		if r.Texts == nil {
			r.Texts = make(map[string]int)
		}
		if _, known := r.Texts[text]; !known && len(r.Texts) >= maxTexts {
			text = "others"
		}
		r.Texts[text]++
		return
	}
	for i := len(r.Failures) - 1; i >= 0 && now.Sub(r.Failures[i].At) < burst; i-- {
		if f := &r.Failures[i]; f.Key == key && f.Text == text {
			f.Count++
			return
		}
	}
	r.Failures = append(r.Failures, fleetFailure{key, text, now, 1})
}

// fleetTally sums up a fleet's run.
type fleetTally struct {
	expiries, refreshes       int
	kills, cuts, late         int // late: answers that came after RefreshTimeout
	lostToKills, lostToCuts   int
	outages, databaseOutages  int
	calls, transient, refused int
	took                      time.Duration
}

func (y *fleetTally) lost() int { return y.lostToKills + y.lostToCuts }

func (y *fleetTally) String() string {
	return fmt.Sprintf("%d expiries, %d refreshes, %d kills, %d answers cut and %d late, %d grants lost (%d to kills, %d to answers that did not arrive), "+
		"%d outages of the authorization server and %d of the database, %d calls, %d transient errors, %d errors of lost grants, %v",
		y.expiries, y.refreshes, y.kills, y.cuts, y.late, y.lost(), y.lostToKills, y.lostToCuts,
		y.outages, y.databaseOutages, y.calls, y.transient, y.refused, y.took.Round(100*time.Millisecond))
}

// finish has the processes end by themselves and checks what they tell.
// Without anything hurt, not even an error that passes will do.
func (f *fleet) finish(hurt bool) {
	f.t.Helper()
	for _, p := range f.processes {
		p.stdin.Close()
	}
	for _, p := range f.processes {
		report := p.finish(f.t)
		f.tally.calls += report.Succeeded
		f.tally.transient += report.Transient
		if report.Flush != "" {
			f.t.Errorf("process %s: Flush: %s", p.name, report.Flush)
		}
		for _, failure := range report.Failures {
			if !f.ofLostGrant(failure) {
				f.t.Errorf("process %s, grant %q, %v after the start, %d calls: %s", p.name, failure.Key, failure.At.Sub(f.begun), failure.Count, failure.Text)
			}
			f.tally.refused += failure.Count
		}
		if report.Transient > 0 && !hurt {
			f.t.Errorf("process %s: %d calls failed with nothing wrong: %v", p.name, report.Transient, report.Texts)
		}
	}
	if y := &f.tally; y.lostToCuts > y.cuts+y.late || y.lostToKills > y.kills*len(fleetKeys) {
		f.t.Errorf("%d grants were lost to %d answers that did not arrive, and %d to %d kills: more than there can be", y.lostToCuts, y.cuts+y.late, y.lostToKills, y.kills)
	}
	f.tally.calls += f.tally.transient + f.tally.refused
	f.tally.outages, f.tally.databaseOutages = f.authorization.count(), f.database.count()
	f.tally.took = time.Since(f.begun)
	f.t.Log(f.tally.String())
}

// ofLostGrant reports whether a call failed while its grant was lost.
func (f *fleet) ofLostGrant(failure fleetFailure) bool {
	for _, r := range f.rounds {
		if r.lost[failure.Key] && !failure.At.Before(r.began) && !failure.At.After(r.ended) {
			return true
		}
	}
	return false
}

// describe tells where the fleet stands, for a person to find out why.
func (f *fleet) describe() string {
	var b strings.Builder
	for _, key := range fleetKeys {
		g := f.stored(key)
		fmt.Fprintf(&b, "%q: %v, expired: %t\n", key, g, g.AccessToken == f.expired[key])
		for _, p := range f.processes {
			fmt.Fprintf(&b, "\t%s got through: %t\n", p.name, p.isServed(fleetServed{key, g.AccessToken}))
		}
		for _, r := range f.srv.TokenRequests() {
			if refreshOf(r) != g.RefreshToken {
				continue
			}
			name := r.Header.Get(processHeader)
			fmt.Fprintf(&b, "\texchange by %s (killed: %t): %d %s, answers: %v\n", name, f.killed[name], r.Status, cmp.Or(r.Code, "no error"), f.all[name].fates(g.RefreshToken))
		}
	}
	return b.String()
}
