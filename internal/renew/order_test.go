package renew

import (
	"context"
	"testing"
	"time"
)

// Each trace is one by which a rule of how grants are ordered was found to be
// necessary: without it, the trace ends in the fault that its name tells of.
// At its beginning the Store has X.1, X.0 is spent, and A and B have X.1.
var traces = []struct {
	name string
	run  func(w *world, a, b *process)
}{
	{"an installation delivered again to the process that exchanged it is outdated", func(w *world, a, b *process) {
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		w.wantStored("X.1")
	}},
	{"an installation delivered again to a process that has just started is outdated", func(w *world, a, b *process) {
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0)")
		w.wantStored("X.1")
	}},
	{"an installation delivered again after forty refreshes is outdated", func(w *world, a, b *process) {
		for range 40 {
			w.expire()
			w.want(a.token(), 0, "a call")
		}
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0)")
	}},
	{"a Store set back to X.0 is not adopted", func(w *world, a, b *process) {
		w.setBack(w.pair("X", 0))
		w.expire()
		w.want(b.token(), 0, "a call")
		w.wantStored("X.2")
	}},
	{"a Store set back by forty refreshes is not adopted", func(w *world, a, b *process) {
		old := w.inStore()
		for range 40 {
			w.expire()
			w.want(a.token(), 0, "a call")
		}
		w.setBack(old)
		w.expire()
		w.want(a.token(), 0, "a call")
		w.wantStored("X.42")
	}},
	{"a pair does not go back over a new authorization in an emptied Store", func(w *world, a, b *process) {
		a.kill()
		w.setBack(nil)
		c := w.process("C")
		w.want(c.save(w.install("Y")), 0, "Save(Y.0)")
		w.expire()
		w.want(b.token(), 0, "a call")
		w.wantStored("Y.1")
		w.settle(b, c)
	}},
	{"a refused pair goes back over an older one, with its verdict", func(w *world, a, b *process) {
		w.wronglyRefused(a)
		w.want(b.token(), Refused, "a call of B")
		w.setBack(w.pair("X", 0))
		w.expire()
		a.call()
		w.wantStored("X.1 (refused)")
	}},
	{"an installation that was replaced is outdated", func(w *world, a, b *process) {
		w.want(a.save(w.install("Y")), 0, "Save(Y.0)")
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0) at A")
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0) at C")
		w.wantStored("Y.0")
	}},
	{"a Store set back to a replaced authorization is not adopted", func(w *world, a, b *process) {
		w.want(a.save(w.install("Y")), 0, "Save(Y.0)")
		w.setBack(w.pair("X", 0))
		w.expire()
		w.want(a.token(), 0, "a call")
		w.wantStored("Y.1")
	}},
	{"thirty-two replaced authorizations are outdated", func(w *world, a, b *process) {
		for i := range 32 {
			w.want(a.save(w.install("Y"+string(rune('A'+i)))), 0, "Save")
		}
		for _, auth := range w.issued[:len(w.issued)-1] {
			w.want(w.process("C").save(w.pair(auth, 0)), Outdated, "Save("+auth+".0)")
		}
	}},
	{"what is outdated stays so over a refused grant", func(w *world, a, b *process) {
		w.wronglyRefused(a)
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0) at A")
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0) at C")
	}},
	{"the stored pair saved once more lifts its verdict and keeps its lineage", func(w *world, a, b *process) {
		w.wronglyRefused(a)
		w.want(b.save(w.pair("X", 1)), 0, "Save(X.1)")
		time.Sleep(storePause)
		w.want(a.token(), 0, "a call")
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0)")
	}},
	{"Save stores the unsaved pair before it compares", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 7                     // and the lease is kept
		w.want(a.token(), 0, "a call of A") // X.2, not saved
		time.Sleep(15 * time.Second)
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		w.want(b.token(), 0, "a call of B")
		w.wantStored("X.2")
		if w.spent != 0 {
			w.failf("a spent token was exchanged")
		}
	}},
	{"what is older than the process' own pair is not saved over an unrelated one", func(w *world, a, b *process) {
		w.setBack(nil)
		w.want(w.process("C").save(w.install("Y")), 0, "Save(Y.0)")
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		w.wantStored("Y.0")
	}},
	{"another portal's grant is not saved over this one", func(w *world, a, b *process) {
		g := w.install("Y")
		g.member = "another"
		w.want(a.save(g), StoreFailed, "Save")
		w.want(w.process("C").save(g), StoreFailed, "Save")
		w.wantStored("X.1")
		w.want(a.source.Delete(context.Background()), 0, "Delete")
		g = w.install("Z")
		g.member = "another"
		w.want(a.save(g), 0, "Save after Delete")
	}},
	{"a verdict is stored, and who reads it does not ask", func(w *world, a, b *process) {
		w.spend()
		w.expire()
		w.want(a.token(), Refused, "a call of A")
		for _, p := range []*process{a, b, w.process("C")} {
			time.Sleep(time.Minute)
			w.want(p.token(), Refused, "a call of "+p.name)
		}
		if w.requests != 1 {
			w.failf("%d requests; want 1", w.requests)
		}
	}},
	{"a verdict is as old as its question, however many read it", func(w *world, a, b *process) {
		w.spend()
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "send")
		go b.token()
		w.until(b, "take")
		w.gate.set(false, b)
		time.Sleep(time.Second)
		at := w.inStore().marks.Refused.At
		w.gate.set(false, nil)
		time.Sleep(time.Second)
		if !w.inStore().marks.Refused.At.Equal(at) || w.requests != 1 {
			w.failf("the verdict of %v is one of %v after %d requests", at, w.inStore().marks.Refused.At, w.requests)
		}
	}},
	{"a verdict is not written over a newer authorization", func(w *world, a, b *process) {
		w.expire()
		w.spend()
		w.gate.set(true, nil)
		answer := make(chan *Failure, 1)
		go func() { answer <- a.token() }()
		w.until(a, "save") // with the verdict
		w.endLease()
		go b.save(w.install("Y"))
		w.until(b, "saved")
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.want(<-answer, 0, "the call of A, which starts over")
		w.wantStored("Y.0")
		w.want(a.token(), 0, "a call")
	}},
	{"a wrong verdict heals within a day, in every process and after a restart", func(w *world, a, b *process) {
		w.wronglyRefused(a)
		w.want(b.token(), Refused, "a call of B")
		c := w.process("C")
		w.want(c.token(), Refused, "a call of C")
		time.Sleep(25 * time.Hour)
		for _, p := range []*process{c, b, a} {
			w.want(p.token(), 0, "a call of "+p.name)
		}
		if w.spent != 0 {
			w.failf("a spent token was exchanged")
		}
	}},
	{"a verdict that could not be stored is kept until it can be", func(w *world, a, b *process) {
		w.spend()
		w.expire()
		a.failSaves = 100
		for range 10 {
			w.want(a.token(), Refused, "a call")
			time.Sleep(10 * time.Minute)
		}
		a.failSaves = 0
		w.want(a.token(), Refused, "a call")
		w.wantStored("X.1 (refused)")
		w.want(b.token(), Refused, "a call of B")
		if w.requests != 1 {
			w.failf("%d requests; want 1", w.requests)
		}
	}},
	{"a late save is taken although a verdict on its predecessor was stored meanwhile", func(w *world, a, b *process) {
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "save") // of X.2
		w.endLease()
		w.gate.set(false, a)
		w.want(b.token(), Refused, "a call of B, after A has stalled for longer than its lease")
		w.wantStored("X.1 (refused)")
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.wantStored("X.2")
		w.want(b.token(), 0, "a call of B")
	}},
	{"a late save does not overwrite a new authorization", func(w *world, a, b *process) {
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "save")
		w.endLease()
		w.setBack(nil)
		go b.save(w.install("Y"))
		w.until(b, "saved")
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.wantStored("Y.0")
		w.want(a.token(), 0, "a call")
	}},
	{"a late save does not bring a removed grant back", func(w *world, a, b *process) {
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "save")
		w.endLease()
		go b.source.Delete(context.Background())
		w.until(b, "saved")
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.wantStored("a tombstone")
		w.want(a.token(), Missing, "a call")
	}},
	{"a slow holder is not overtaken", func(w *world, a, b *process) {
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "answer")
		w.gate.set(false, a)
		done := make(chan *Failure)
		go func() { done <- b.token() }()
		time.Sleep(14 * time.Second)
		w.gate.set(false, nil)
		w.want(<-done, 0, "the call of B")
		if w.spent != 0 {
			w.failf("a spent token was exchanged")
		}
	}},
	{"after a failed save nobody else comes first", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 3
		w.want(a.token(), 0, "a call of A")
		w.want(b.token(), 0, "a call of B")
		w.wantStored("X.2")
		if w.spent != 0 {
			w.failf("a spent token was exchanged")
		}
	}},
	{"a removed grant is dropped by who has it, and its installation is outdated", func(w *world, a, b *process) {
		w.want(b.source.Delete(context.Background()), 0, "Delete")
		w.want(b.token(), Missing, "a call of B")
		w.expire()
		w.want(a.token(), Missing, "a call of A")
		for _, p := range []*process{a, b, w.process("C")} {
			w.want(p.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		}
		w.want(a.save(w.install("Y")), 0, "Save(Y.0)")
		w.want(w.process("C").save(w.pair("X", 0)), Outdated, "Save(X.0) after Y.0")
		w.want(w.process("D").token(), 0, "a call")
	}},
	{"a tombstone that is older gives way", func(w *world, a, b *process) {
		w.want(a.source.Delete(context.Background()), 0, "Delete")
		tombstone := w.inStore()
		w.want(a.save(w.install("Y")), 0, "Save(Y.0)")
		w.setBack(tombstone)
		w.expire()
		w.want(a.token(), 0, "a call")
		w.wantStored("Y.1")
		w.want(b.token(), 0, "a call of B")
	}},
	{"an unsaved pair is dropped with the grant it belongs to", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 100
		w.want(a.token(), 0, "a call")
		w.endLease() // the lease that the failed save has kept
		w.want(b.source.Delete(context.Background()), 0, "Delete")
		a.failSaves = 0
		time.Sleep(15 * time.Second)
		if g := a.holds(); g != nil {
			w.failf("A goes on with %s", g.name())
		}
		w.expire()
		w.want(a.token(), Missing, "a call of A")
		w.settle(a, b)
		w.wantStored("a tombstone")
	}},
	{"an emptied Store is filled again by who has a pair", func(w *world, a, b *process) {
		w.setBack(nil)
		w.expire()
		w.want(b.token(), 0, "a call of B")
		w.want(a.token(), 0, "a call of A")
		w.wantStored("X.2")
	}},
	{"an emptied Store gets the unsaved pair", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 100
		w.want(a.token(), 0, "a call of A")
		w.setBack(nil)
		a.failSaves = 0
		w.settle(a, b)
	}},
	{"two processes do not fight over what each of them knows", func(w *world, a, b *process) {
		x1 := w.inStore()
		w.setBack(nil) // away
		c := w.process("C")
		w.want(c.save(w.install("Y")), 0, "Save(Y.0)")
		w.expire()
		w.want(b.token(), 0, "a call of B")
		w.setBack(x1)      // and back: nothing relates Y to X
		w.gone["Y"] = true // so what is stored wins
		writes := len(w.log)
		w.settle(a, b, c)
		if n := len(w.log) - writes; n > 60 {
			w.failf("%d lines about one grant: they fight", n)
		}
	}},
	{"a pair that was saved without an answer is the stored one", func(w *world, a, b *process) {
		w.expire()
		a.lostAcks = 1
		w.want(a.token(), 0, "a call of A")
		time.Sleep(15 * time.Second)
		w.want(b.token(), 0, "a call of B")
		if w.writes != 1 {
			w.failf("%d writes of one pair", w.writes)
		}
		w.settle(a, b)
		if w.spent != 0 {
			w.failf("a spent token was exchanged")
		}
	}},
	{"what is older than an unsaved pair is not saved over an unrelated one", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 100
		w.want(a.token(), 0, "a call of A") // X.2, not saved
		time.Sleep(15 * time.Second)
		w.setBack(nil)
		b.kill()
		w.endLease()
		c := w.process("C")
		w.want(c.save(w.install("Y")), 0, "Save(Y.0)")
		a.failSaves = 0
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		w.wantStored("Y.0")
		w.settle(a, c)
	}},
	{"a pair that was superseded is outdated although its lineage is missing", func(w *world, a, b *process) {
		w.expire()
		w.want(b.token(), 0, "a call of B")
		w.want(a.save(w.pair("X", 1)), Outdated, "Save(X.1), which A has")
		w.wantStored("X.2")
	}},
	{"an unwritten verdict gives way to a Save of the very pair", func(w *world, a, b *process) {
		w.expire()
		a.refusals, w.excused = 1, true
		a.failSaves = 100
		w.want(a.token(), Refused, "the call that the server refuses wrongly")
		time.Sleep(time.Minute)
		w.endLease()
		w.want(b.save(w.pair("X", 1)), 0, "Save(X.1)")
		time.Sleep(time.Minute)
		a.failSaves = 0
		w.want(a.token(), 0, "a call of A after the Save")
		w.want(w.process("C").token(), 0, "a call of C")
	}},
	{"an emptied Store is filled again by who refuses an outdated pair", func(w *world, a, b *process) {
		w.setBack(nil)
		w.want(a.save(w.pair("X", 0)), Outdated, "Save(X.0)")
		time.Sleep(15 * time.Second)
		w.wantStored("X.1")
	}},
	{"a fork of a replaced authorization is not adopted", func(w *world, a, b *process) {
		w.expire()
		w.want(a.token(), 0, "a call of A")
		x2 := w.inStore()
		w.setBack(nil)
		w.want(b.save(w.install("Y")), 0, "Save(Y.0) at B, which has X.1")
		w.setBack(x2)
		w.expire()
		w.want(b.token(), 0, "a call of B")
		w.wantStored("Y.1")
	}},
	{"a process with an old pair of a Store set back is told wrong until the newer one's holder calls", func(w *world, a, b *process) {
		w.expire()
		w.want(a.token(), 0, "a call of A")
		w.setBack(w.pair("X", 0))
		w.excused = true
		w.want(b.token(), Refused, "a call of B, which has X.1")
		w.expire()
		w.want(a.token(), 0, "a call of A")
		time.Sleep(2 * time.Second)
		w.want(b.token(), 0, "a call of B")
	}},
	{"a holder of an unsaved pair adopts a new authorization", func(w *world, a, b *process) {
		w.expire()
		a.failSaves = 100
		w.want(a.token(), 0, "a call of A")
		time.Sleep(15 * time.Second)
		w.endLease()
		w.want(b.save(w.install("Y")), 0, "Save(Y.0)")
		a.failSaves = 0
		time.Sleep(2 * time.Minute)
		w.want(a.token(), 0, "a call of A")
		time.Sleep(2 * time.Minute)
		w.wantStored("Y.0")
	}},
	{"a late save is taken although its predecessor was written once more meanwhile", func(w *world, a, b *process) {
		w.expire()
		w.gate.set(true, nil)
		go a.token()
		w.until(a, "save")
		w.endLease()
		w.gate.set(false, a)
		w.want(b.save(w.pair("X", 1)), 0, "Save(X.1)")
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.wantStored("X.2")
	}},
	{"a grant stored before there was lineage is the first of its authorization", func(w *world, a, b *process) {
		w.stored.marks = Marks{}
		c := w.process("C")
		w.expire()
		w.want(c.token(), 0, "a call")
		w.want(w.process("D").save(w.pair("X", 1)), Outdated, "Save(X.1)")
		w.settle(a, b, c)
	}},
}

func TestOrderOfGrants(t *testing.T) {
	for _, trace := range traces {
		t.Run(trace.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				ps := w.start("A", "B")
				trace.run(w, ps[0], ps[1])
				w.settle(ps...)
			})
		})
	}
}

// setBack makes the Store hold what it held once, or nothing.
func (w *world) setBack(g *grant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stored = g
	w.notef("the Store is set back to %s", g.name())
}

// spend has the server exchange X.1 for a pair that nobody gets.
func (w *world) spend() { w.alive["X"], w.gone["X"] = 7, true }

// wronglyRefused has p's token run out and the server call the living X.1 dead.
func (w *world) wronglyRefused(p *process) {
	w.expire()
	p.refusals, w.excused = 1, true
	w.want(p.token(), Refused, "the call that the server refuses wrongly")
	w.wantStored("X.1 (refused)")
}
