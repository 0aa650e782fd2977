package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/google/go-cmp/cmp"
)

// fill stores n grants, many at a time, and returns their keys.
func fill(t testing.TB, s b24oauth.Store, n int) map[string]bool {
	t.Helper()
	const atATime = 64
	keys := make(chan string)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for key := range keys {
				if err := s.Update(t.Context(), key, returning(numbered(1), nil)); err != nil {
					t.Errorf("Update(%.80q) = %v", key, err)
				}
			}
		})
	}
	stored := make(map[string]bool)
	for i := range n {
		stored[fmt.Sprintf("member %d", i)] = true
	}
	for _, key := range awkward() {
		stored[key] = true
	}
	for key := range stored {
		keys <- key
	}
	close(keys)
	wg.Wait()
	return stored
}

func keysOnce(t testing.TB, open func() b24oauth.Store) {
	k, ok := open().(b24oauth.Lister)
	if !ok {
		t.Skip("the Store cannot enumerate")
	}
	for key, err := range k.Keys(t.Context()) {
		t.Errorf("Keys of an empty Store yields %q, %v", key, err)
	}
	n := 10_000
	if testing.Short() {
		n = 300
	}
	want := fill(t, open(), n)
	// Neither a key that has been updated nor a deleted one is another key.
	put(t, open(), "member 0", numbered(2))
	put(t, open(), "gone", numbered(1))
	if err := open().Update(t.Context(), "gone", returning(nil, b24oauth.ErrDelete)); err != nil {
		t.Errorf("Update = %v", err)
	}
	// No grant was ever stored under this one.
	if err := open().Update(t.Context(), "never", returning(nil, nil)); err != nil {
		t.Errorf("Update = %v", err)
	}

	got := make(map[string]bool)
	for key, err := range k.Keys(t.Context()) {
		switch {
		case err != nil:
			t.Fatalf("Keys yields the error %v", err)
		case got[key]:
			t.Errorf("Keys yields %.80q twice", key)
		case !want[key]:
			t.Errorf("Keys yields %.80q, which has no grant", key)
		}
		got[key] = true
	}
	for key := range want {
		if !got[key] {
			t.Errorf("Keys does not yield %.80q", key)
		}
	}
}

func keysOfTheLiving(t testing.TB, open func() b24oauth.Store) {
	k, ok := open().(b24oauth.Lister)
	if !ok {
		t.Skip("the Store cannot enumerate")
	}
	other := open()
	long := strings.Repeat("k", 1023)
	keys := []string{theKey, "never had a grant", long}
	want := func(when string, want ...string) {
		t.Helper()
		var got []string
		for key, err := range k.Keys(t.Context()) {
			if err != nil {
				t.Fatalf("%s: Keys yields the error %v", when, err)
			}
			got = append(got, key)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, the keys are (-want +got):\n%s", when, diff)
		}
	}
	put(t, other, "stays", numbered(9))
	put(t, other, theKey, numbered(1))
	put(t, other, long, numbered(2))
	for i, key := range keys {
		put(t, other, key, tombstone(uint64(i+1)))
	}
	want("after tombstones were stored", "stays")
	for i, key := range keys {
		put(t, other, key, numbered(int64(i+1)))
	}
	want("after grants replaced them", append(keys, "stays")...)
}

func keysLeft(t testing.TB, open func() b24oauth.Store) {
	s := open()
	k, ok := s.(b24oauth.Lister)
	if !ok {
		t.Skip("the Store cannot enumerate")
	}
	want := fill(t, s, 20)
	keys := k.Keys(t.Context())
	for range 2 { // what was left can be begun again
		seen := 0
		for _, err := range keys {
			if err != nil {
				t.Fatalf("Keys yields the error %v", err)
			}
			// The Store is usable meanwhile, as it is for a program that
			// renews one grant after the other.
			put(t, s, theKey, numbered(1))
			if seen++; seen == 3 {
				break
			}
		}
		if seen != 3 {
			t.Fatalf("Keys yields %d keys; want %d", seen, len(want))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	for _, err := range k.Keys(ctx) {
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Keys yields %v after ctx ended; want its error or none", err)
		}
		if seen++; seen > len(want)+2 {
			t.Fatalf("Keys does not end after ctx has ended")
		}
	}
}
