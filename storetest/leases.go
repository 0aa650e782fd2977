package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

const lease = time.Second

// holdShortly holds one Update of each key for longer than its exclusivity
// lasts. It skips the test if that of the Store does not run out.
func holdShortly(t testing.TB, open func() b24oauth.Store, keys ...string) []*held {
	t.Helper()
	s := open()
	leaser, ok := s.(ShortLeaser)
	if !ok {
		h, given := hold(t, t.Context(), s, "any key")
		_, ends := given.ctx.Deadline()
		h.end(nil, nil)
		if ends {
			t.Fatalf("fn's context has a deadline, so exclusivity runs out: make the Store a storetest.ShortLeaser, so that its end can be checked")
		}
		t.Skip("exclusivity does not run out")
	}
	short := leaser.ShortLease(lease)
	var all []*held
	var calls []call
	for _, key := range keys {
		h, given := hold(t, t.Context(), short, key)
		all, calls = append(all, h), append(calls, given)
	}
	for _, given := range calls {
		if d, ok := given.ctx.Deadline(); !ok || time.Until(d) > lease {
			t.Errorf("fn's context has the deadline %v (%t); want one within the %v of exclusivity", d, ok, lease)
		}
		await(t, given.ctx.Done(), "the end of fn's context with exclusivity")
	}
	return all
}

// lateCase is an Update that ends after its exclusivity, and what another one
// has made of the key by then.
type lateCase struct {
	name      string
	stored    *b24oauth.Grant // what the late one is given; nil: nothing
	meanwhile fnResult        // what fn of the other one returns; nil, nil: it changes nothing
	late      fnResult
	want      *b24oauth.Grant // what is stored in the end; nil: nothing
}

// endLate plays the cases, all at a time, each under its name as the key, and
// checks that each late Update returns nil or, if conflict is set, ErrConflict.
func endLate(t testing.TB, open func() b24oauth.Store, conflict bool, cases []lateCase) {
	t.Helper()
	other := open()
	var keys []string
	for _, c := range cases {
		keys = append(keys, c.name)
		if c.stored != nil {
			put(t, other, c.name, c.stored)
		}
	}
	late := holdShortly(t, open, keys...)
	for i, c := range cases {
		if err := other.Update(t.Context(), c.name, returning(c.meanwhile.grant, c.meanwhile.err)); err != nil {
			t.Fatalf("%s: the Update that took over = %v", c.name, err)
		}
		err := late[i].end(c.late.grant, c.late.err)
		if conflict != errors.Is(err, b24oauth.ErrConflict) || !conflict && err != nil {
			t.Errorf("%s: the Update that was late = %v; want ErrConflict: %t", c.name, err, conflict)
		}
		if c.want == nil {
			wantNone(t, other, c.name)
		} else {
			wantGrant(t, load(t, other, c.name), c.want)
		}
	}
}

func lateSave(t testing.TB, open func() b24oauth.Store) {
	endLate(t, open, false, []lateCase{
		{"a grant", numbered(1), fnResult{}, fnResult{grant: numbered(2)}, numbered(2)},
		{"the first grant", nil, fnResult{}, fnResult{grant: numbered(2)}, numbered(2)},
		{"a grant without a refresh token", accessOnly(1), fnResult{}, fnResult{grant: accessOnly(2)}, accessOnly(2)},
		{"a tombstone", numbered(1), fnResult{}, fnResult{grant: tombstone(2)}, tombstone(2)},
		{"a grant over a tombstone", tombstone(1), fnResult{}, fnResult{grant: numbered(2)}, numbered(2)},
		{"a verdict", numbered(1), fnResult{}, fnResult{grant: refused(numbered(1))}, refused(numbered(1))},
		{"a deletion", numbered(1), fnResult{}, fnResult{err: b24oauth.ErrDelete}, nil},
	})

	// Exclusivity is another's by now, and what it was given is gone then.
	other := open()
	put(t, other, theKey, numbered(1))
	late := holdShortly(t, open, theKey)
	next, given := hold(t, t.Context(), other, theKey)
	if given.grant == nil || given.grant.UserID != 1 {
		t.Errorf("the Update that took over was given %v; want the stored grant", given.grant)
	}
	if err := late[0].end(numbered(2), nil); err != nil {
		t.Errorf("the Update that was late, while another one runs = %v; want its grant stored, nothing had changed", err)
	}
	wantNumber(t, other, theKey, 2)
	if err := next.end(numbered(3), nil); !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("the Update that took over, after the late save = %v; want ErrConflict", err)
	}
	wantNumber(t, other, theKey, 2)
	put(t, other, theKey, numbered(4))
	wantNumber(t, other, theKey, 4)
}

// lateSaveByValue changes what does not make another grant of the stored one.
func lateSaveByValue(t testing.TB, open func() b24oauth.Store) {
	moved, reissued := numbered(1), numbered(1)
	moved.ClientEndpoint, moved.FormerHosts = "https://new.bitrix24.com/rest/", []string{"old.bitrix24.com"}
	reissued.AccessToken, reissued.Expiry = "access reissued", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var cases []lateCase
	for name, g := range map[string]*b24oauth.Grant{
		"the verdict": refused(numbered(1)), "the address": moved, "the access token": reissued, "nothing": numbered(1),
	} {
		cases = append(cases,
			lateCase{"a grant, " + name + " changed", numbered(1), fnResult{grant: g}, fnResult{grant: numbered(2)}, numbered(2)},
			lateCase{"a deletion, " + name + " changed", numbered(1), fnResult{grant: g}, fnResult{err: b24oauth.ErrDelete}, nil})
	}
	cases = append(cases, lateCase{
		"a grant, the verdict lifted", refused(numbered(1)), fnResult{grant: numbered(1)}, fnResult{grant: numbered(2)}, numbered(2),
	})
	endLate(t, open, false, cases)
}

func lateConflict(t testing.TB, open func() b24oauth.Store) {
	endLate(t, open, true, []lateCase{
		{"a grant over another", numbered(1), fnResult{grant: numbered(3)}, fnResult{grant: numbered(2)}, numbered(3)},
		{"a verdict over a newer pair", numbered(1), fnResult{grant: numbered(3)}, fnResult{grant: refused(numbered(1))}, numbered(3)},
		{"a deletion of another", numbered(1), fnResult{grant: numbered(3)}, fnResult{err: b24oauth.ErrDelete}, numbered(3)},
		{"without a refresh token", accessOnly(1), fnResult{grant: accessOnly(3)}, fnResult{grant: accessOnly(2)}, accessOnly(3)},
		{"a grant over a tombstone", numbered(1), fnResult{grant: tombstone(3)}, fnResult{grant: numbered(2)}, tombstone(3)},
		{"a grant over another tombstone", tombstone(1), fnResult{grant: tombstone(3)}, fnResult{grant: numbered(2)}, tombstone(3)},
		{"a tombstone over another grant", numbered(1), fnResult{grant: numbered(3)}, fnResult{grant: tombstone(2)}, numbered(3)},
	})
}

// lateInsert is not about exclusivity alone: a grant that was purged comes
// back with a save that does not ask whether anything is there.
func lateInsert(t testing.TB, open func() b24oauth.Store) {
	endLate(t, open, true, []lateCase{
		{"given a grant, nothing stored", numbered(1), fnResult{err: b24oauth.ErrDelete}, fnResult{grant: numbered(2)}, nil},
		{"given a tombstone, nothing stored", tombstone(1), fnResult{err: b24oauth.ErrDelete}, fnResult{grant: numbered(2)}, nil},
		{"given nil, a grant stored", nil, fnResult{grant: numbered(3)}, fnResult{grant: numbered(2)}, numbered(3)},
		{"given nil, a tombstone stored", nil, fnResult{grant: tombstone(3)}, fnResult{grant: numbered(2)}, tombstone(3)},
	})
}

func tookOver(t testing.TB, open func() b24oauth.Store) {
	other := open()
	put(t, other, theKey, numbered(1))
	late := holdShortly(t, open, theKey)
	failure := errors.New("fn's own")
	for i := range 2 {
		err := other.Update(t.Context(), theKey, returning(nil, failure))
		if !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("failing Update %d after exclusivity ran out = %v; want fn's error, and no conflict: nothing was to be written", i+1, err)
		}
	}
	wantNumber(t, other, theKey, 1)
	if err := late[0].end(nil, failure); !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("the Update that was late and failed = %v; want fn's error alone", err)
	}
}

// defaultLease is about a Store as it comes. One that promises less leaves
// no time for an answer that is late, one that promises more makes others
// wait for longer behind a process that died.
func defaultLease(t testing.TB, open func() b24oauth.Store) {
	const promised, slow = 45 * time.Second, 5 * time.Second
	h, given := hold(t, t.Context(), open(), theKey)
	d, ends := given.ctx.Deadline()
	left := time.Until(d)
	if err := h.end(nil, nil); err != nil {
		t.Errorf("Update = %v", err)
	}
	if !ends {
		t.Skip("exclusivity does not run out")
	}
	if left > promised || left <= promised-slow {
		t.Errorf("fn's context ends in %v; want %v, less what it took to get there", left.Round(time.Millisecond), promised)
	}
}
