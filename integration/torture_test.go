package integration

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"
)

// Every other test shows one thing going wrong at a time. On the day that
// matters everything does: the token of three portals ends under 600 callers
// in eight processes, one of the processes is killed while it holds the only
// copy of a new refresh token, the database comes back from a restart, and
// the authorization server answers late, with 503, or not at all. Here that
// day comes again and again, on each Store.
//
// What must hold: while nothing is killed or cut, each expiry costs exactly
// one refresh for each grant, and every call succeeds. In the chaos a call
// may fail with an error that passes, and with nothing else; a grant may be
// lost only if its new pair was, with a killed process or an answer that did
// not arrive, and never if refresh tokens work more than once. A grant that
// is installed anew works in the processes that run, and in the end each
// stored grant works.

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
	brief   = 3 * time.Second
)

// ordeal is what a fleet goes through.
type ordeal struct {
	name           string
	expiries       int
	kills, cuts    int
	singleUse      func(round int) bool // nil: nothing is hurt
	refreshTimeout time.Duration
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
			{name: "chaos", expiries: expiries, kills: 2, cuts: 2, refreshTimeout: brief,
				singleUse: func(round int) bool { return round < expiries/2 }},
		}
	}
	kills, cuts := 20, 8
	if leased {
		kills, cuts = 4, 4
	}
	return []ordeal{
		{name: "calm", expiries: 60, refreshTimeout: patient},
		{name: "chaos with single-use refresh tokens", expiries: 60, kills: kills, cuts: cuts, refreshTimeout: brief, singleUse: always},
		{name: "chaos with stateless refresh tokens", expiries: 60, kills: kills, cuts: cuts, refreshTimeout: brief, singleUse: never},
	}
}

func TestTorture(t *testing.T) {
	for _, place := range fleetPlaces() {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			for _, o := range ordeals(place.leased) {
				t.Run(o.name, func(t *testing.T) {
					f := startFleet(t, o, place.fresh(t))
					f.settle(&fleetRound{began: f.begun})
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
		before := f.tally.refreshes
		f.expire()
		f.settle(&fleetRound{began: time.Now()})
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

// checkGrants checks that each stored grant works, its access token and then
// its refresh token, for a program that knows nothing but what is stored.
func (f *fleet) checkGrants() {
	f.t.Helper()
	config := f.srv.Config()
	config.Store, config.RefreshTimeout = f.store, f.config.RefreshTimeout
	for want := range 2 {
		before := f.srv.Refreshes()
		for _, key := range fleetKeys {
			resp, err := config.Client(key).Get(f.srv.Endpoint() + "profile")
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
