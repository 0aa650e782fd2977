package integration

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
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
	Final     bool      // it says that there is no grant, or a dead one, or a dead token
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
	final := errors.Is(err, b24oauth.ErrReauthorize) || errors.Is(err, b24oauth.ErrNoGrant) || errors.Is(err, errUnauthorized)
	r.Failures = append(r.Failures, fleetFailure{key, text, final, now, 1})
}

// fleetTally sums up a fleet's run.
type fleetTally struct {
	expiries, refreshes         int
	kills, cuts, late           int // late: answers that were waited for in vain
	stops, restarts, deliveries int
	setBacks, emptied           int
	lost                        map[string]int // grants, by why
	outages, databaseOutages    int
	calls, transient, refused   int
	took                        time.Duration
}

func (y *fleetTally) String() string {
	return fmt.Sprintf("%d expiries, %d refreshes, %d kills, %d answers cut and %d late, %d stops, %d restarts, %d installations delivered again, "+
		"the Store set back %d times and emptied %d times, grants lost: %v, "+
		"%d outages of the authorization server and %d of the database, %d calls, %d transient errors, %d errors of lost grants, %v",
		y.expiries, y.refreshes, y.kills, y.cuts, y.late, y.stops, y.restarts, y.deliveries,
		y.setBacks, y.emptied, y.lost,
		y.outages, y.databaseOutages, y.calls, y.transient, y.refused, y.took.Round(100*time.Millisecond))
}

// count adds what arrived in a round to the tally, and forgets it.
func (f *fleet) count() {
	f.tally.refreshes += f.srv.Refreshes()
	type exchange struct{ process, refresh string }
	exchanges := make(map[exchange]int)
	for _, r := range f.srv.TokenRequests() {
		if name := r.Header.Get(processHeader); mayHaveRotated(r) && !f.killed[name] {
			exchanges[exchange{name, refreshOf(r)}]++
		}
	}
	for e, n := range exchanges {
		for _, fate := range f.all[e.process].fates(e.refresh) {
			switch {
			case fate == canceled:
				f.t.Errorf("process %s gave up an exchange before its time", e.process)
			case n == 0 || fate == heard:
				continue // without its request, it never reached the server
			case fate == cut:
				f.tally.cuts++
			case fate == late:
				f.tally.late++
			}
			n--
		}
	}
	f.srv.Reset()
}

// refreshOf returns the refresh token of a token request.
func refreshOf(r b24test.Request) string {
	refresh, _ := r.Params["refresh_token"].(string)
	return refresh
}

// mayHaveRotated reports whether the server exchanged the refresh token, as
// far as its own log says: Status is 0 if nobody was there to be answered.
func mayHaveRotated(r b24test.Request) bool {
	return refreshOf(r) != "" && r.Code == "" && (r.Status == http.StatusOK || r.Status == 0)
}

// finish has the processes end by themselves and checks what they tell.
// Without anything hurt, not even an error that passes will do.
func (f *fleet) finish(hurt bool) {
	f.t.Helper()
	for _, p := range f.processes {
		p.stdin.Close()
	}
	for _, p := range f.processes {
		f.absorb(p)
	}
	for _, texts := range f.transient {
		if !hurt {
			f.t.Errorf("calls failed with nothing wrong: %v", texts)
		}
	}
	for _, x := range f.failures {
		if !f.ofLostGrant(x.fleetFailure) {
			f.t.Errorf("process %s, grant %q, %v after the start, %d calls: %s", x.process, x.Key, x.At.Sub(f.begun), x.Count, x.Text)
		}
		f.tally.refused += x.Count
	}
	if y := &f.tally; y.lost[lostToCut] > y.cuts || y.lost[lostToKill]+y.lost[lostToSave] > y.kills*len(fleetKeys) {
		f.t.Errorf("more grants were lost than there can be: %v", y)
	}
	f.tally.calls += f.tally.transient + f.tally.refused
	f.tally.outages, f.tally.databaseOutages = f.authorization.count(), f.database.count()
	f.tally.took = time.Since(f.begun)
	f.t.Log(f.tally.String())
}

// absorb waits for the end of a process and takes its report.
func (f *fleet) absorb(p *fleetProcess) {
	f.t.Helper()
	report := p.finish(f.t)
	f.tally.calls += report.Succeeded
	f.tally.transient += report.Transient
	if report.Transient > 0 {
		f.transient = append(f.transient, report.Texts)
	}
	if report.Flush != "" {
		f.t.Errorf("process %s: Flush: %s", p.name, report.Flush)
	}
	for _, failure := range report.Failures {
		f.failures = append(f.failures, failureOf{failure, p.name})
	}
}

// failureOf is a failure that a process has reported.
type failureOf struct {
	fleetFailure
	process string
}

// ofLostGrant reports whether a call failed while its grant was lost, or was
// taken for that: by a process that read an old pair in a Store set back, or
// asked with one while the holder of the next stood still.
func (f *fleet) ofLostGrant(failure fleetFailure) bool {
	for _, r := range f.rounds {
		mistaken := failure.Final && (r.hurt[failure.Key] || len(r.stalled) > 0)
		if (r.lost[failure.Key] || mistaken) && !failure.At.Before(r.began) && !failure.At.After(r.ended) {
			return true
		}
	}
	return false
}

// describe tells where the fleet stands, for a person to find out why.
func (f *fleet) describe() string {
	var b strings.Builder
	for _, key := range fleetKeys {
		newest, g := f.newestPair(key), f.stored(key)
		if g == nil {
			g = new(b24oauth.Grant)
		}
		fmt.Fprintf(&b, "%q: %v, expired: %t, refused: %v, the newest: %t\n", key, g, f.expired[g.AccessToken], g.Refused, g.RefreshToken == newest.Refresh)
		for _, p := range f.processes {
			fmt.Fprintf(&b, "\t%s got through: %t, with the newest: %t\n", p.name, p.isServed(fleetServed{key, g.AccessToken}), p.gotThroughWith(newest.Access))
		}
		for _, r := range f.srv.TokenRequests() {
			if refresh := refreshOf(r); refresh == g.RefreshToken || refresh == newest.Refresh {
				name := r.Header.Get(processHeader)
				fmt.Fprintf(&b, "\texchange of the newest: %t, by %s (killed: %t): %d %s, answers: %v\n",
					refresh == newest.Refresh, name, f.killed[name], r.Status, cmp.Or(r.Code, "no error"), f.all[name].fates(refresh))
			}
		}
	}
	return b.String()
}
