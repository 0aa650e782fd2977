package integration

import (
	"errors"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// Every other test shows one thing going wrong at a time. On the day that
// matters everything does: the token of three portals ends under 600 callers
// in eight processes, one of the processes is killed while it holds the only
// copy of a new refresh token, the database comes back from a restart, and
// the authorization server answers late, with 503, or not at all. Here that
// day comes again and again, on each Store.
//
// What must hold: while nothing is hurt, each expiry costs exactly one refresh
// for each grant, and every call succeeds. In the chaos a call may fail with an
// error that passes, and with nothing else. A grant may be lost only if nobody
// who lives can have its newest pair: if the process that exchanged the token
// was killed before it could save the answer, or the answer was cut before its
// first byte. Processes that stand still, end by themselves and start anew
// cost none, nor do installations that are delivered again, which must be
// refused as outdated, nor a Store that is set back or emptied while processes
// run: who has the newer pair writes it back. What is documented to stay is let
// pass: a process that stands still for longer than its lease may lose the pair,
// and until the holder of the newest pair looks, others may take a grant of a
// Store set back for dead. No grant is lost if refresh tokens work more than
// once. A grant that is installed anew works in the processes that run, and
// in the end each stored grant works.

var (
	tortureFull = flag.Bool("torture.full", os.Getenv("B24OAUTH_TORTURE") == "full", "run the torture in full: some minutes for each Store (-timeout 60m); B24OAUTH_TORTURE=full does the same")
	tortureSeed = flag.Uint64("torture.seed", 0, "the `seed` of the torture's chaos; 0: a new one")
	tortureLogs = flag.String("torture.logs", "", "the `directory` for the logs of the torture's processes")
)

const (
	saveTime     = 10 * time.Second // that the package takes for saving, at most
	leaseReserve = 5 * time.Second  // for a database that is slow to give a lease; it is so by default, too

	// RefreshTimeout where nobody is killed, and where a lease, which must be
	// longer, blocks its grant when its holder is.
	patient = 30 * time.Second
	brief   = 2 * time.Second
)

// ordeal is what a fleet goes through.
type ordeal struct {
	name        string
	expiries    int
	kills, cuts int

	stops, stalls     int // shorter and longer than a lease
	restarts          int
	deliveries        int // of an installation, once more
	setBacks, empties int
	singleUse         func(round int) bool // nil: nothing is hurt
	refreshTimeout    time.Duration
}

// ordeals returns what there is to go through. A killed holder of a lease
// costs everybody the lease, and those who wait for it pauses that grow, so
// there are fewer kills where there are leases.
func ordeals(leased bool) []ordeal {
	always, never := func(int) bool { return true }, func(int) bool { return false }
	if !*tortureFull || testing.Short() {
		const expiries = 6
		return []ordeal{
			{name: "calm", expiries: expiries / 2, refreshTimeout: patient},
			{name: "chaos", expiries: expiries, kills: 2, cuts: 2, stops: 2, restarts: 1, deliveries: 3, setBacks: 2, empties: 2,
				refreshTimeout: brief, singleUse: func(round int) bool { return round < expiries*2/3 }},
		}
	}
	kills, cuts := 20, 8
	if leased {
		kills, cuts = 4, 4
	}
	const expiries = 50
	chaos := ordeal{
		expiries: expiries, kills: kills, cuts: cuts, stops: 8, restarts: 6, deliveries: 12, setBacks: 8, empties: 6,
		refreshTimeout: brief,
	}
	single, stateless := chaos, chaos
	single.name, single.singleUse, single.stalls = "chaos with single-use refresh tokens", always, 1
	stateless.name, stateless.singleUse = "chaos with stateless refresh tokens", never
	return []ordeal{{name: "calm", expiries: expiries, refreshTimeout: patient}, single, stateless}
}

func TestTorture(t *testing.T) {
	for _, place := range fleetPlaces() {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			for _, o := range ordeals(place.leased) {
				t.Run(o.name, func(t *testing.T) {
					f := startFleet(t, o, place.fresh(t))
					f.settle(newRound())
					if o.singleUse == nil {
						f.sufferNothing(o)
					} else {
						f.suffer(o)
					}
					f.finish(o.singleUse != nil)
					f.checkGrants()
				})
			}
		})
	}
}

// sufferNothing lets tokens expire, and nothing else happen.
func (f *fleet) sufferNothing(o ordeal) {
	f.t.Helper()
	for round := range o.expiries {
		f.endPauses()
		before := f.tally.refreshes
		f.expire()
		f.settle(newRound())
		if got := f.tally.refreshes - before; got != len(fleetKeys) {
			f.t.Errorf("expiry %d of %d grants cost %d refreshes; want one for each", round, len(fleetKeys), got)
		}
	}
}

// suffer lets tokens expire while everything else happens too.
func (f *fleet) suffer(o ordeal) {
	f.t.Helper()
	seed := *tortureSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	f.t.Logf("-torture.seed=%d", seed)
	c := newChaos(f, o, seed)
	for round := range o.expiries {
		c.round(round, o.singleUse(round))
	}
}

// callOnce calls the portal with a grant. A lease that a process left behind, or
// that could not be given back while the Store was down, is waited for.
func (f *fleet) callOnce(config *b24oauth.Config, key string) (*http.Response, error) {
	for begun := time.Now(); ; {
		resp, err := config.Client(key).Get(f.srv.Endpoint() + "profile")
		if err == nil || !errors.Is(err, b24oauth.ErrUnavailable) || time.Since(begun) > settleBound {
			return resp, err
		}
		time.Sleep(time.Second)
	}
}

// checkGrants checks that each stored grant works, its access token and then
// its refresh token, for a program that knows nothing but what is stored.
func (f *fleet) checkGrants() {
	f.t.Helper()
	config := f.srv.Config()
	config.Store, config.RefreshTimeout = f.store, f.config.RefreshTimeout
	for want := range 2 {
		before := f.srv.Refreshes()
		for _, key := range fleetKeys {
			resp, err := f.callOnce(config, key)
			if err != nil {
				f.t.Errorf("in the end a call with the grant %q fails: %v", key, err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				f.t.Errorf("in the end a call with the grant %q is answered %s", key, resp.Status)
			}
		}
		if got := f.srv.Refreshes() - before; got != want*len(fleetKeys) {
			f.t.Errorf("calls with %d stored grants took %d refreshes; want %d", len(fleetKeys), got, want*len(fleetKeys))
		}
		f.srv.ExpireAccessTokens()
	}
}
