package renew

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inWorld runs a trace in a bubble of its own and fails if the world found a
// fault: LOST, CLOBBER, RESURRECT, FALSEPERM or STUCK.
func inWorld(t *testing.T, trace func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		trace(w)
		close(w.over)
		w.gate.set(false, nil)
		time.Sleep(time.Hour) // until the jobs of killed processes end, too
		if len(w.faults) > 0 {
			t.Errorf("%s\n%s", strings.Join(w.faults, "\n"), w.story())
		}
	})
}

// expire lets the access tokens run out.
func (w *world) expire() { time.Sleep(time.Hour) }

// call asks for a token and judges a permanent answer: it is wrong while the
// Store holds a living pair, or a live process has one or is about to get it.
func (p *process) call() *Failure {
	w := p.w
	w.mu.Lock()
	latest := w.latest
	w.mu.Unlock()
	f := p.token()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.isAlive() || f == nil || w.latest != latest { // nothing said of the one before it is wrong
		return f
	}
	w.notef("%s: a call fails: %v", p.name, f)
	removed := w.stored != nil && !w.stored.marks.Deleted.IsZero()
	if w.excused || f.Class != Refused && (f.Class != Missing || removed) {
		return f
	}
	if auth := w.rightful(); auth != "" && !w.gone[auth] {
		w.failf("FALSEPERM: %s is told %v, and %s.%d lives", p.name, f, auth, w.alive[auth])
	}
	return f
}

// rightful returns the authorization that is to be found in the end: the last
// that was stored and not removed, "" if there is none.
func (w *world) rightful() string {
	if w.removed[w.latest] {
		return ""
	}
	return w.latest
}

// held returns the living pairs that live processes have.
func (w *world) held(ps []*process) (held []*grant) {
	for _, p := range ps {
		if g := p.holds(); p.isAlive() && w.living(g) {
			held = append(held, g)
		}
	}
	return held
}

// settle ends all faults, has every process call for days, and judges what is
// left: whoever could be healed has to be.
func (w *world) settle(ps ...*process) {
	w.t.Helper()
	ps = slices.DeleteFunc(slices.Clone(ps), func(p *process) bool { return !p.isAlive() })
	w.mu.Lock()
	for _, p := range ps {
		p.failLoads, p.failSaves, p.lostAcks, p.cuts, p.refusals, p.errs = 0, 0, 0, 0, 0, 0
	}
	w.notef("the faults end")
	w.mu.Unlock()
	w.gate.set(false, nil)
	time.Sleep(time.Minute)

	w.mu.Lock()
	rightful := w.rightful()
	found := w.living(w.stored)
	for _, g := range w.held(ps) {
		found = found || g.auth == rightful
	}
	if rightful != "" && !w.gone[rightful] && !found {
		w.failf("LOST: nobody has %s.%d, and the Store holds %s", rightful, w.alive[rightful], w.stored.name())
	}
	w.excused = true // a verdict from before may still be read
	w.mu.Unlock()
	for _, idle := range []time.Duration{11 * time.Minute, 25 * time.Hour, 25 * time.Hour} {
		for _, p := range ps {
			p.call()
			p.flush()
		}
		time.Sleep(idle)
	}
	w.mu.Lock()
	before := w.requests
	w.mu.Unlock()
	for _, p := range ps {
		switch f := p.call(); {
		case found && f != nil:
			w.failf("STUCK: %s has %s, the Store %s, and the failure is %v", p.name, p.holds().name(), w.stored.name(), f)
		case !found && (f == nil || f.Class != Missing && f.Class != Refused):
			w.failf("%s: nothing lives, and the answer is %v", p.name, f)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if found && !w.living(w.stored) {
		w.failf("LOST: the Store holds %s", w.stored.name())
	}
	if w.requests > before+1 {
		w.failf("%d requests at the end", w.requests-before)
	}
}

// want fails unless the failure is of that class.
func (w *world) want(f *Failure, class Class, what string) {
	w.t.Helper()
	if f == nil && class == 0 {
		return
	}
	if f == nil || f.Class != class {
		w.failf("%s: failure %v; want class %d", what, f, class)
	}
}

// wantStored fails unless the Store holds the grant of that name.
func (w *world) wantStored(name string) {
	w.t.Helper()
	if got := w.inStore().name(); got != name {
		w.failf("the Store holds %s; want %s", got, name)
	}
}

// inStore returns what the Store holds.
func (w *world) inStore() *grant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored
}

// endLease takes the lease from whoever has it.
func (w *world) endLease() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = time.Now()
}
