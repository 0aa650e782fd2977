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

func lateSave(t testing.TB, open func() b24oauth.Store) {
	other := open()
	const held, free, empty = "held by another", "free", "empty"
	put(t, other, held, numbered(1))
	put(t, other, free, numbered(1))
	late := holdShortly(t, open, held, free, empty)

	next, given := hold(t, t.Context(), other, held)
	if given.grant == nil || given.grant.UserID != 1 {
		t.Errorf("the Update that took over was given %v; want the stored grant", given.grant)
	}
	for i, key := range []string{held, free, empty} {
		if err := late[i].end(numbered(2), nil); err != nil {
			t.Errorf("%s: Update that was late = %v; want its grant stored, nothing had changed", key, err)
		}
		wantNumber(t, other, key, 2)
	}
	if err := next.end(numbered(3), nil); !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("the Update that took over, after the late save = %v; want ErrConflict", err)
	}
	wantNumber(t, other, held, 2)
	put(t, other, held, numbered(4))
	wantNumber(t, other, held, 4)
}

func lateConflict(t testing.TB, open func() b24oauth.Store) {
	other := open()
	const changed, deleted, made, kept = "changed", "deleted", "made", "changed, to be deleted"
	for _, key := range []string{changed, deleted, kept} {
		put(t, other, key, numbered(1))
	}
	late := holdShortly(t, open, changed, deleted, made, kept)

	for _, key := range []string{changed, made, kept} {
		put(t, other, key, numbered(3))
	}
	if err := other.Update(t.Context(), deleted, returning(nil, b24oauth.ErrDelete)); err != nil {
		t.Fatalf("Update that took over, to delete = %v", err)
	}
	for i, end := range []answer{{grant: numbered(2)}, {grant: numbered(2)}, {grant: numbered(2)}, {err: b24oauth.ErrDelete}} {
		key := []string{changed, deleted, made, kept}[i]
		if err := late[i].end(end.grant, end.err); !errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("%s: Update that was late = %v; want ErrConflict", key, err)
		}
		if key == deleted {
			wantNone(t, other, key)
		} else {
			wantNumber(t, other, key, 3)
		}
	}
}

func tookOver(t testing.TB, open func() b24oauth.Store) {
	other := open()
	put(t, other, theKey, numbered(1))
	late := holdShortly(t, open, theKey)
	failure := errors.New("fn's own")
	if err := other.Update(t.Context(), theKey, returning(nil, failure)); !errors.Is(err, failure) || !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("failing Update that took over = %v; want fn's error and ErrConflict too", err)
	}
	wantNumber(t, other, theKey, 1)
	if err := late[0].end(nil, nil); err != nil {
		t.Errorf("Update that was late and stores nothing = %v", err)
	}
	if err := other.Update(t.Context(), theKey, returning(nil, failure)); !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("failing Update after all had ended = %v; want fn's error and no conflict", err)
	}
}
