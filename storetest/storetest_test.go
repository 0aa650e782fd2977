package storetest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/b24go/b24oauth"
)

func TestMemoryStorePasses(t *testing.T) {
	Run(t, func(*testing.T) func() b24oauth.Store {
		s := new(b24oauth.MemoryStore)
		return func() b24oauth.Store { return s }
	})
}

func TestStoreWithLeasesPasses(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, openLeased(leasing{})) })
		})
	}
}

// recorder is the testing.TB of a check that is expected to fail.
type recorder struct {
	testing.TB
	mu      sync.Mutex // guards failed
	failed  []string
	skipped bool
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Skip(...any) {
	r.skipped = true
	runtime.Goexit()
}

// outcome runs one check on a new place, in fake time, and returns what it
// made of it.
func outcome(t *testing.T, name string, setup func() func() b24oauth.Store) *recorder {
	var r *recorder
	for _, c := range checks {
		if c.name != name {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			r = &recorder{TB: t}
			open := setup()
			over := make(chan struct{})
			go func() {
				defer close(over)
				c.run(r, open)
			}()
			<-over
		})
	}
	if r == nil {
		t.Fatalf("no check is named %q", name)
	}
	return r
}

func TestRunFailsBrokenStores(t *testing.T) {
	covered := make(map[string]bool)
	for _, b := range slices.Concat(brokenGrants, brokenUpdates) {
		covered[b.check] = true
		t.Run(b.name, func(t *testing.T) {
			r := outcome(t, b.check, b.open)
			if len(r.failed) == 0 {
				t.Fatalf("%q does not fail for %s", b.check, b.name)
			}
			t.Logf("%q: %.300s", b.check, strings.Join(r.failed, "\n"))
		})
	}
	for _, c := range checks {
		if !covered[c.name] {
			t.Errorf("no broken Store shows that %q can fail", c.name)
		}
	}
}

func TestLeaseChecksAreSkippedWithoutLeases(t *testing.T) {
	memory := func() func() b24oauth.Store {
		s := new(b24oauth.MemoryStore)
		return func() b24oauth.Store { return s }
	}
	for _, name := range []string{
		"a late save of an unchanged value is stored",
		"a late save of a changed value is refused",
		"a late save is stored if no other grant is",
		"a save inserts only if fn was given nil",
		"an Update that took over returns fn's error alone",
		"exclusivity that runs out is promised for 45 s",
	} {
		if r := outcome(t, name, memory); !r.skipped || len(r.failed) > 0 {
			t.Errorf("%q for a MemoryStore: skipped %t, failures %q", name, r.skipped, r.failed)
		}
	}
}
