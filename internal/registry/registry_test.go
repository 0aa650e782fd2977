package registry

import (
	"runtime"
	"testing"
	"time"
)

type value struct {
	n    int
	idle bool
}

func isIdle(v *value) bool { return v.idle }

func TestAValueIsTheSameAsLongAsAnybodyHasIt(t *testing.T) {
	var r Registry[value]
	now := time.Unix(0, 0).Add(time.Hour)
	made := 0
	create := func() *value { made++; return &value{n: made} }
	first := r.Get("key", now, create, isIdle)
	if r.Get("key", now, create, isIdle) != first || len(r.All()) != 1 {
		t.Error("a key has two values")
	}

	first.idle = true
	now = now.Add(sweepPause)
	r.Get("another", now, create, isIdle)
	if len(r.All()) != 1 {
		t.Error("the idle value is still kept")
	}
	if r.Get("key", now, create, isIdle) != first {
		t.Error("the key has a new value although somebody has the old one")
	}

	now = now.Add(sweepPause)
	r.Get("a third", now, create, isIdle)
	r.Use("key", first)
	if got := r.All(); len(got) != 3 {
		t.Errorf("%d values are in use; want the one that came back too", len(got))
	}

	now = now.Add(sweepPause)
	r.Get("a fourth", now, create, isIdle)
	runtime.KeepAlive(first)
	first = nil
	runtime.GC()
	if r.idle["key"].Value() != nil {
		t.Fatal("nobody has the value, and it is still there")
	}
	if v := r.Get("key", now, create, isIdle); v.n != made || made != 5 {
		t.Errorf("value %d of %d; want a new one", v.n, made)
	}
	now = now.Add(sweepPause)
	r.Get("a fifth", now, create, func(*value) bool { return false })
	if len(r.idle) != 0 {
		t.Errorf("%d values that have gone are remembered", len(r.idle))
	}
}
