package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

func nilStoresNothing(t testing.TB, open func() b24oauth.Store) {
	s := open()
	if err := s.Update(t.Context(), theKey, returning(nil, nil)); err != nil {
		t.Errorf("Update = %v", err)
	}
	wantNone(t, s, theKey)
	put(t, s, theKey, numbered(1))
	if err := s.Update(t.Context(), theKey, returning(nil, nil)); err != nil {
		t.Errorf("Update = %v", err)
	}
	wantNumber(t, s, theKey, 1)
}

func errDelete(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	for name, fn := range map[string]func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error){
		"ErrDelete":             returning(nil, b24oauth.ErrDelete),
		"ErrDelete wrapped":     returning(nil, fmt.Errorf("uninstalled: %w", b24oauth.ErrDelete)),
		"ErrDelete and a grant": returning(numbered(3), b24oauth.ErrDelete),
	} {
		if err := s.Update(t.Context(), theKey, fn); err != nil {
			t.Errorf("%s, nothing stored: Update = %v; want nil", name, err)
		}
		wantNone(t, other, theKey)
		put(t, s, theKey, numbered(1))
		put(t, s, "another key", numbered(2))
		if err := other.Update(t.Context(), theKey, fn); err != nil {
			t.Errorf("%s: Update = %v; want nil", name, err)
		}
		wantNone(t, s, theKey)
		wantNumber(t, s, "another key", 2)
	}
}

func otherErrors(t testing.TB, open func() b24oauth.Store) {
	s := open()
	failure := errors.New("fn's own")
	for _, err := range []error{failure, fmt.Errorf("in between: %w", failure)} {
		for _, g := range []*b24oauth.Grant{nil, numbered(2)} {
			if got := s.Update(t.Context(), "another key", returning(g, err)); !errors.Is(got, err) {
				t.Errorf("nothing stored: Update = %v; want what fn returned, or that wrapped", got)
			}
			wantNone(t, s, "another key")

			put(t, s, theKey, numbered(1))
			got := s.Update(t.Context(), theKey, returning(g, err))
			if !errors.Is(got, err) {
				t.Errorf("Update = %v; want what fn returned, or that wrapped", got)
			}
			if errors.Is(got, b24oauth.ErrConflict) {
				t.Errorf("Update = %v; the Update before it had ended, so this is no conflict", got)
			}
			wantNumber(t, s, theKey, 1)
		}
	}
}

func calledOnce(t testing.TB, open func() b24oauth.Store) {
	s := open()
	calls := 0
	counting := func(err error) func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			calls++
			return numbered(1), err
		}
	}
	for _, err := range []error{nil, errors.New("fn's own"), b24oauth.ErrConflict, b24oauth.ErrDelete} {
		calls = 0
		s.Update(t.Context(), theKey, counting(err))
		if calls != 1 {
			t.Errorf("fn that returns the error %v was called %d times; want once", err, calls)
		}
	}
	calls = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ctx, theKey, counting(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("Update with a cancelled context = %v; want context.Canceled", err)
	}
	if calls != 0 {
		t.Error("fn was called after ctx had ended")
	}
	wantNone(t, s, theKey)
}

type contextKey struct{}

func fnContext(t testing.TB, open func() b24oauth.Store) {
	end := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(context.WithValue(t.Context(), contextKey{}, "value"), end)
	defer cancel()
	h, given := hold(t, ctx, open(), theKey)
	if v := given.ctx.Value(contextKey{}); v != "value" {
		t.Errorf("fn's context has the value %v; want that of Update's", v)
	}
	if d, ok := given.ctx.Deadline(); ok && d.Equal(end) {
		t.Error("fn's context has the deadline of Update's; want the end of exclusivity, or none")
	}
	cancel()
	stays(t, given.ctx.Done(), "fn's context ended with Update's")
	if err := given.ctx.Err(); err != nil {
		t.Errorf("after Update's context ended, fn's says %v", err)
	}
	if err := h.end(nil, nil); err != nil {
		t.Errorf("Update = %v", err)
	}
}

func saveIgnoresContext(t testing.TB, open func() b24oauth.Store) {
	s := open()
	for _, err := range []error{nil, b24oauth.ErrDelete} {
		ctx, cancel := context.WithCancel(t.Context())
		h, _ := hold(t, ctx, s, theKey)
		cancel()
		if err := h.end(numbered(1), err); err != nil {
			t.Errorf("Update whose context ended while fn ran = %v; want what fn returned saved", err)
		}
		if err == nil {
			wantNumber(t, s, theKey, 1)
		} else {
			wantNone(t, s, theKey)
		}
	}
}

func panics(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	put(t, s, theKey, numbered(1))
	for name, leave := range map[string]func(){
		"a panic":        func() { panic("fn's own") },
		"runtime.Goexit": runtime.Goexit,
	} {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer func() { recover() }()
			s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				leave()
				return numbered(2), nil
			})
		}()
		await(t, gone, "an Update whose fn ended with "+name)
		for _, s := range []b24oauth.Store{s, other} {
			h, given := hold(t, t.Context(), s, theKey)
			if given.grant == nil || given.grant.UserID != 1 {
				t.Errorf("after %s in fn: fn is given %v; want the grant as it was", name, given.grant)
			}
			h.end(nil, nil)
		}
	}
}
