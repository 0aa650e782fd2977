package registry

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
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
	now = now.Add(roundPause)
	r.Get("another", now, create, isIdle)
	if len(r.All()) != 1 {
		t.Error("the idle value is still kept")
	}
	if r.Get("key", now, create, isIdle) != first {
		t.Error("the key has a new value although somebody has the old one")
	}

	now = now.Add(roundPause)
	r.Get("a third", now, create, isIdle)
	r.Use("key", first, now, isIdle)
	if got := r.All(); len(got) != 3 {
		t.Errorf("%d values are in use; want the one that came back too", len(got))
	}

	now = now.Add(roundPause)
	r.Get("a fourth", now, create, isIdle)
	runtime.KeepAlive(first)
	first = nil
	runtime.GC()
	if h := r.held("key"); h.used != nil || h.value() != nil {
		t.Fatal("nobody has the value, and it is still there")
	}
	if v := r.Get("key", now, create, isIdle); v.n != made || made != 5 {
		t.Errorf("value %d of %d; want a new one", v.n, made)
	}
	now = now.Add(roundPause)
	r.Get("a fifth", now, create, func(*value) bool { return false })
	for _, h := range r.next.values {
		if h.value() == nil {
			t.Error("a value that has gone is remembered")
		}
	}
}

// held returns what is held of a key's value.
func (r *Registry[T]) held(key string) holding[T] {
	if h, ok := r.next.values[key]; ok {
		return h
	}
	return r.old.values[key]
}

func TestACallLooksAtAShareOfTheValuesHoweverManyThereAre(t *testing.T) {
	var r Registry[value]
	now := time.Unix(0, 0).Add(time.Hour)
	looked, most := 0, 0
	count := func(v *value) bool { looked++; return v.idle }
	get := func(key string) *value {
		looked = 0
		v := r.Get(key, now, func() *value { return &value{idle: true} }, count)
		most = max(most, looked)
		return v
	}
	const n = 100_000
	var kept []*value
	for i := range n {
		if v := get(fmt.Sprint(i)); i%1000 == 0 {
			v.idle = false
			kept = append(kept, v)
		}
	}
	for range 2 { // what is idle is held weakly, then forgotten
		now = now.Add(roundPause)
		for range n/share + 2 {
			get("0")
		}
		runtime.GC()
	}
	now = now.Add(roundPause)
	for range n/share + 2 {
		get("0")
	}
	if most == 0 || most > share {
		t.Errorf("a call looks at %d values, want at most %d", most, share)
	}
	if got := len(r.next.values) + len(r.old.values); got != len(kept) {
		t.Errorf("%d values are remembered, want %d", got, len(kept))
	}
	for i, v := range kept {
		if get(fmt.Sprint(i*1000)) != v {
			t.Fatalf("key %d has another value", i*1000)
		}
	}
}

func TestAllReturnsEachValueOnceInTheMiddleOfARound(t *testing.T) {
	var r Registry[value]
	now := time.Unix(0, 0).Add(time.Hour)
	create := func() *value { return new(value) }
	const n = 10 * share
	for i := range n {
		r.Get(fmt.Sprint(i), now, create, isIdle)
	}
	now = now.Add(roundPause)
	r.Get("0", now, create, isIdle)
	seen := make(map[*value]bool)
	all := r.All()
	for _, v := range all {
		seen[v] = true
	}
	if len(r.old.values) == 0 || len(seen) != n || len(all) != n {
		t.Errorf("%d values, %d of them different, want %d; %d of the round are left", len(all), len(seen), n, len(r.old.values))
	}
}

// Whatever the order of calls, a key has one value as long as anybody has it.
func TestAKeyNeverHasTwoValuesAtOnce(t *testing.T) {
	var r Registry[value]
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(0, 0).Add(time.Hour)
	mine := make(map[string]*value)
	for range 200_000 {
		key := strconv.Itoa(rng.IntN(3 * share))
		switch rng.IntN(8) {
		case 0:
			delete(mine, key)
		case 1:
			now = now.Add(time.Second)
		case 2:
			if v := mine[key]; v != nil {
				v.idle = false
				r.Use(key, v, now, isIdle)
			}
		default:
			v := r.Get(key, now, func() *value { return new(value) }, isIdle)
			if mine[key] != nil && mine[key] != v {
				t.Fatalf("%s has two values", key)
			}
			v.idle = rng.IntN(2) == 0
			mine[key] = v
		}
		if rng.IntN(10_000) == 0 {
			runtime.GC()
		}
	}
	if n, all := len(r.next.keys)+len(r.old.keys), r.All(); n == 0 || len(all) == 0 {
		t.Error("nothing is kept")
	}
}
