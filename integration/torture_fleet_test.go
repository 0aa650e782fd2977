package integration

import (
	"context"
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

	processes []*fleetProcess          // that run
	all       map[string]*fleetProcess // by name, the killed ones too
	killed    map[string]bool
	expired   map[string]string // by key: the access token that was expired last
	suspects  map[string]suspect
	rounds    []*fleetRound
	tally     fleetTally
	begun     time.Time
}

// fleetRound is the time from an expiry until every caller got through again.
type fleetRound struct {
	began, ended time.Time
	singleUse    bool
	lost         map[string]bool // keys of grants
	injuries     []string
}

func startFleet(t *testing.T, o ordeal, s fleetStore) *fleet {
	t.Helper()
	f := &fleet{
		t:        t,
		srv:      b24test.NewServer(),
		all:      make(map[string]*fleetProcess),
		killed:   make(map[string]bool),
		expired:  make(map[string]string),
		suspects: make(map[string]suspect),
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
	if err := f.config.Save(ctx, key, f.srv.Install()); err != nil {
		f.t.Fatalf("Save(%q) = %v; want the new grant stored", key, err)
	}
}

// stored returns the grant that is in the Store.
func (f *fleet) stored(key string) *b24oauth.Grant {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), settleBound)
	defer cancel()
	g, err := f.store.Load(ctx, key)
	if err != nil {
		f.t.Fatalf("Load(%q) = %v; want the grant", key, err)
	}
	return g
}

// expire ends all access tokens, which begins a round.
func (f *fleet) expire() {
	f.t.Helper()
	for _, key := range fleetKeys {
		f.expired[key] = f.stored(key).AccessToken
	}
	f.tally.expiries++
	f.srv.ExpireAccessTokens()
}

// settle waits until every caller of every process got through with the token
// that is stored, and ends the round.
//
// That it is every caller matters twice. A token that expires before a
// process was accepted with it is not renewed again so soon, which is a
// refusal and not a failure of the package; and a call that is being repeated
// with it is not repeated once more.
func (f *fleet) settle(r *fleetRound) {
	f.t.Helper()
	limit := time.NewTimer(settleBound)
	defer limit.Stop()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for !f.settled() {
		if r.singleUse {
			f.replaceLost(r)
		}
		select {
		case <-tick.C:
		case <-limit.C:
			f.t.Fatalf("after %v some calls still do not get through:\n%s", settleBound, f.describe())
		}
	}
	f.count()
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
	for _, key := range fleetKeys {
		token := f.stored(key).AccessToken
		if token == f.expired[key] {
			return false
		}
		for _, p := range f.processes {
			if !p.isServed(fleetServed{key, token}) {
				return false
			}
		}
	}
	return true
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
