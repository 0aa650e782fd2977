package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

const (
	fleetSize   = 8                 // processes
	settleBound = 150 * time.Second // pauses between renewals grow to a minute
	settlePoll  = 25 * time.Millisecond
	slowRound   = 5 * time.Second // worth a line in the log
)

var fleetKeys = []string{"example.bitrix24.com", "портал/2", "member 3"}

// fleet is a server, a Store with three grants, and the processes that use
// them.
type fleet struct {
	t      *testing.T
	srv    *b24test.Server
	task   fleetTask // of the next process
	store  b24oauth.Store
	config *b24oauth.Config

	// What stands in front of the authorization server and, if there is one,
	// of the database. The portal has none: a call that is cut there is
	// between the portal and its caller.
	authorization, database *fleetProxy

	below *underside // the Store

	processes []*fleetProcess          // that run
	leaving   []*fleetProcess          // that are to end by themselves
	all       map[string]*fleetProcess // by name, those that ended too
	killed    map[string]bool
	installs  map[string][]*b24oauth.Grant // by key: what each installation brought
	former    map[string][]image           // by key: what was stored after each round
	expired   map[string]bool              // access tokens
	suspects  map[string]suspect
	rounds    []*fleetRound
	transient []map[string]int // texts of errors that pass, by process
	failures  []failureOf
	tally     fleetTally
	begun     time.Time
}

// fleetRound is the time from an expiry until every caller got through again.
type fleetRound struct {
	began, ended time.Time
	singleUse    bool
	lost         map[string]bool // keys of grants
	hurt         map[string]bool // keys of grants that were set back or taken away
	stalled      map[string]bool // names of processes that stood still for longer than a lease
	deliveries   []delivery      // that nothing is known of yet
	injuries     []string
}

func newRound() *fleetRound {
	return &fleetRound{began: time.Now(), lost: make(map[string]bool), hurt: make(map[string]bool), stalled: make(map[string]bool)}
}

func startFleet(t *testing.T, o ordeal, s fleetStore) *fleet {
	t.Helper()
	f := &fleet{
		t:        t,
		srv:      b24test.NewServer(),
		all:      make(map[string]*fleetProcess),
		killed:   make(map[string]bool),
		installs: make(map[string][]*b24oauth.Grant),
		former:   make(map[string][]image),
		expired:  make(map[string]bool),
		suspects: make(map[string]suspect),
		tally:    fleetTally{lost: make(map[string]int)},
		begun:    time.Now(),
	}
	t.Cleanup(f.srv.Close)

	s.Lease = 2*o.refreshTimeout + saveTime + leaseReserve
	f.config = f.srv.Config()
	f.config.RefreshTimeout = o.refreshTimeout
	store, closeStore, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore() })
	f.store, f.config.Store = store, store
	f.below = openBelow(t, s)
	for _, key := range fleetKeys {
		f.install(key)
	}

	token, err := url.Parse(f.srv.TokenURL())
	if err != nil {
		t.Fatal(err)
	}
	f.authorization = startFleetProxy(t, "tcp", token.Host)
	token.Host = f.authorization.address()
	network, address, err := s.address()
	if err != nil {
		t.Fatal(err)
	}
	if network != "" {
		f.database = startFleetProxy(t, network, address)
		s.Via = f.database.address()
	}
	f.task = fleetTask{
		Store:          s,
		Keys:           fleetKeys,
		ClientID:       f.srv.ClientID(),
		ClientSecret:   f.srv.ClientSecret(),
		TokenURL:       token.String(),
		Endpoint:       f.srv.Endpoint(),
		RefreshTimeout: o.refreshTimeout,
	}
	for range fleetSize {
		f.processes = append(f.processes, f.start())
	}
	return f
}

func (f *fleet) start() *fleetProcess {
	f.t.Helper()
	f.task.Process = fmt.Sprintf("P%d", len(f.all)+1)
	if *tortureLogs != "" {
		f.task.LogFile = filepath.Join(*tortureLogs, strings.ReplaceAll(f.t.Name(), "/", "_")+"_"+f.task.Process+".log")
	}
	p := startFleetProcess(f.t, f.task)
	f.all[p.name] = p
	return p
}

// kill kills a process and starts another in its place.
func (f *fleet) kill(p *fleetProcess) {
	f.t.Helper()
	for i := range f.processes {
		if f.processes[i] == p {
			p.kill()
			f.killed[p.name] = true
			f.tally.kills++
			f.processes[i] = f.start()
			return
		}
	}
}

// install stores a new grant, as an installation does.
func (f *fleet) install(key string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), settleBound)
	defer cancel()
	g := f.srv.Install()
	if err := f.config.Save(ctx, key, g); err != nil {
		f.t.Fatalf("Save(%q) = %v; want the new grant stored", key, err)
	}
	f.installs[key] = append(f.installs[key], g)
}

// stored returns the grant that is in the Store, nil if it was taken away.
func (f *fleet) stored(key string) *b24oauth.Grant {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), settleBound)
	defer cancel()
	g, err := f.store.Load(ctx, key)
	if errors.Is(err, b24oauth.ErrNoGrant) {
		return nil
	}
	if err != nil {
		f.t.Fatalf("Load(%q) = %v; want the grant", key, err)
	}
	return g
}

// expire ends all access tokens, which begins a round.
func (f *fleet) expire() {
	f.t.Helper()
	for _, key := range fleetKeys {
		if g := f.stored(key); g != nil {
			f.expired[g.AccessToken] = true
		}
	}
	f.tally.expiries++
	f.srv.ExpireAccessTokens()
}

// endPauses has every process save the stored grants once more. A portal whose
// tokens are refused every few seconds gets no new ones for a while, which is
// no failure of the package, and would leave nothing else to see; a Save ends
// that.
func (f *fleet) endPauses() {
	f.t.Helper()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	limit := time.NewTimer(settleBound)
	defer limit.Stop()
	for _, p := range f.processes { // one after the other: none waits for the others' exclusivity
		var orders []int
		for _, key := range fleetKeys {
			if g := f.stored(key); g != nil { // the Store may have been emptied
				orders = append(orders, p.order(f.t, key, g))
			}
		}
		for _, id := range orders {
			for {
				done, ok := p.outcome(id)
				if ok && done.Text != "" && !done.Outdated && !done.Passing {
					f.t.Errorf("process %s cannot save the stored grant once more: %s", p.name, done.Text)
				}
				if ok {
					break
				}
				select {
				case <-tick.C:
				case <-limit.C:
					f.t.Fatalf("process %s does not save the stored grants once more", p.name)
				}
			}
		}
	}
}

// settle waits until every caller of every process got through with the token
// that is stored, and ends the round.
//
// That it is every caller matters, since a call that is being repeated with a
// token is not repeated once more when that expires.
func (f *fleet) settle(r *fleetRound) {
	f.t.Helper()
	limit := time.NewTimer(settleBound)
	defer limit.Stop()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for !f.settled() || !f.delivered(r) {
		if r.singleUse {
			f.replaceLost(r)
			if f.onlyExpiryHelps(r) {
				f.endPauses()
				f.expire()
				clear(f.suspects)
			}
		}
		select {
		case <-tick.C:
		case <-limit.C:
			f.t.Fatalf("after %v some calls still do not get through:\n%s", settleBound, f.describe())
		}
	}
	f.count()
	for _, p := range f.leaving {
		f.absorb(p)
	}
	f.leaving = nil
	r.ended = time.Now()
	if took := r.ended.Sub(r.began); took > slowRound {
		f.t.Logf("round %d took %v: %s", len(f.rounds), took.Round(100*time.Millisecond), strings.Join(r.injuries, ", "))
	}
	f.rounds = append(f.rounds, r)
}

func (f *fleet) settled() bool {
	f.t.Helper()
	for _, p := range f.processes {
		if p.hasEnded() {
			f.t.Fatalf("process %s ended, saying:\n%s", p.name, strings.Join(p.rest, "\n"))
		}
	}
	for _, p := range f.leaving {
		if !p.hasEnded() {
			return false
		}
	}
	for _, key := range fleetKeys {
		if !f.served(key) {
			return false
		}
	}
	return true
}

// served reports whether every caller of every process got through with the
// token that is stored, and this still works.
func (f *fleet) served(key string) bool {
	f.t.Helper()
	g := f.stored(key)
	if g == nil || f.expired[g.AccessToken] {
		return false
	}
	for _, p := range f.processes {
		if !p.isServed(fleetServed{key, g.AccessToken}) {
			return false
		}
	}
	if !f.works(g.AccessToken) {
		f.expired[g.AccessToken] = true
		return false
	}
	return true
}

// works asks the portal about an access token: that all got through with it
// once says little if the Store was set back since.
func (f *fleet) works(access string) bool {
	f.t.Helper()
	resp, err := f.srv.Client().Get(f.srv.Endpoint() + "profile?auth=" + access)
	if err != nil {
		f.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
