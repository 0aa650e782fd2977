// Package storetest checks an implementation of [b24oauth.Store] against the
// contract. A Store that breaks it loses refresh tokens, mostly long after
// its tests have passed: when two processes renew at once, when a caller
// gives up, when a save comes late. So each sentence of the contract is a
// subtest here. What needs a killed process is not: a test of the Store's own
// has to show that.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
//			dir := t.TempDir()
//			return func() b24oauth.Store { return mystore.New(dir) }
//		})
//	}
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// Run runs the suite as subtests of t.
//
// setup is called once for each subtest and prepares an empty place. The
// function that it returns opens a Store on that place; it is called several
// times, and the Stores stand for as many processes, so they should share
// nothing but the place. A Store that cannot be opened twice, such as
// [b24oauth.MemoryStore], may be the same one each time. setup ends what it
// began with [testing.T.Cleanup].
//
// If the Store is a [b24oauth.Lister], that is checked too. If the context
// that it gives to fn has a deadline, the Stores must be [ShortLeaser]s.
func Run(t *testing.T, setup func(t *testing.T) (open func() b24oauth.Store)) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, setup(t)) })
	}
}

// A ShortLeaser is a Store whose exclusivity runs out, as a lease does. The
// suite waits until it has, and looks at what becomes of the save that comes
// too late. ShortLease returns a Store on the same place, all of whose
// Updates are promised exclusivity for d only. A Store that has no use for
// such a method outside of the suite gets it from a type of its test that
// embeds the Store.
type ShortLeaser interface {
	b24oauth.Store
	ShortLease(d time.Duration) b24oauth.Store
}

// check is one sentence of the contract. It takes a testing.TB so that the
// suite's own tests can watch it fail.
type check struct {
	name string
	run  func(t testing.TB, open func() b24oauth.Store)
}

var checks = []check{
	{"every field of a grant comes back", everyField},
	{"a grant replaces the one before it whole", replacedWhole},
	{"any two keys are two grants", anyKeys},
	{"a large grant comes back", largeGrant},
	{"a key without a grant is ErrNoGrant and nil for fn", noGrant},
	{"neither side sees what the other does to its grant", copies},
	{"a verdict is stored like any other change", verdicts},
	{"a tombstone is stored like any other grant", tombstones},
	{"a nil grant stores nothing", nilStoresNothing},
	{"ErrDelete purges", errDelete},
	{"any other error is returned and stores nothing", otherErrors},
	{"fn is called once, and not after ctx has ended", calledOnce},
	{"fn sees the values of ctx and not its end", fnContext},
	{"a save does not heed ctx", saveIgnoresContext},
	{"a panic in fn gives the key back", panics},
	{"Load does not wait for an Update", loadDoesNotWait},
	{"an Update waits for the one before it and sees its grant", waitsForTheOther},
	{"no Update is lost among many", noneLost},
	{"waiting for exclusivity ends with ctx", waitingEnds},
	{"exclusivity that runs out is promised for 45 s", defaultLease},
	{"a late save of an unchanged value is stored", lateSave},
	{"a late save is stored if no other grant is", lateSaveByValue},
	{"a late save of a changed value is refused", lateConflict},
	{"a save inserts only if fn was given nil", lateInsert},
	{"an Update that took over returns fn's error alone", tookOver},
	{"Keys yields each key once", keysOnce},
	{"Keys skips tombstones", keysOfTheLiving},
	{"Keys can be left early and ends with ctx", keysLeft},
}

// patience is how long the suite waits for what has to happen, and grace how
// long for what must not.
const (
	patience = 10 * time.Second
	grace    = 100 * time.Millisecond
)

const theKey = "example.bitrix24.com"

// numbered returns a grant that is another one for any other n: its tokens
// differ, and with them its fence.
func numbered(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{
		MemberID:     "member",
		AccessToken:  fmt.Sprint("access ", n),
		RefreshToken: fmt.Sprint("refresh ", n),
		UserID:       n,
		FormerHosts:  []string{"former.bitrix24.com"},
		Lineage:      b24oauth.Lineage{Root: 1, Generation: uint64(n), Former: []uint64{2, 3}},
	}
}

// returning is a fn for Update.
func returning(g *b24oauth.Grant, err error) func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
	return func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, err }
}

func put(t testing.TB, s b24oauth.Store, key string, g *b24oauth.Grant) {
	t.Helper()
	if err := s.Update(t.Context(), key, returning(g, nil)); err != nil {
		t.Fatalf("Update(%.80q) = %v; want the grant stored", key, err)
	}
}

func load(t testing.TB, s b24oauth.Store, key string) *b24oauth.Grant {
	t.Helper()
	g, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatalf("Load(%.80q) = %v; want the stored grant", key, err)
	}
	if g == nil {
		t.Fatalf("Load(%.80q) = nil, nil; want a grant or an error", key)
	}
	return g
}

// wantNumber checks that numbered(n) is stored under key.
func wantNumber(t testing.TB, s b24oauth.Store, key string, n int64) {
	t.Helper()
	if g := load(t, s, key); g.UserID != n {
		t.Errorf("Load(%.80q) is grant number %d; want %d", key, g.UserID, n)
	}
}

// await returns what ch yields, or fails if that takes too long.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case v := <-ch:
		return v
	case <-timeout.C:
		t.Fatalf("%s: not within %v", what, patience)
		panic("not reached")
	}
}

// stays fails if ch yields anything within the grace.
func stays[T any](t testing.TB, ch <-chan T, what string) {
	t.Helper()
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	select {
	case <-ch:
		t.Fatalf("%s", what)
	case <-timeout.C:
	}
}
