package renew

import (
	"context"
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth/internal/racetest"
)

var (
	interleavings = flag.Int("interleavings", 30_000, "how many random interleavings of three processes to run; an eighth of it with the race detector")
	firstSeed     = flag.Uint64("seed", 0, "the first interleaving's seed; 0: a random one")
)

// faults are what can befall a process, or the Store while it works. Those
// that are not of the Store's contents happen in any mixture.
var faults = []struct {
	name    string
	excuses bool // until another process looks, one may be told wrong
	strike  func(w *world, p *process)
}{
	{"killed", false, func(w *world, p *process) { p.kill() }},
	{"answer cut", false, func(w *world, p *process) { p.cuts++ }},
	{"save fails", false, func(w *world, p *process) { p.failSaves++ }},
	{"saves fail for long", true, func(w *world, p *process) { p.failSaves += 12 }},
	{"save not answered", false, func(w *world, p *process) { p.lostAcks++ }},
	{"load fails", false, func(w *world, p *process) { p.failLoads++ }},
	{"server fails", false, func(w *world, p *process) { p.errs += 3 }},
	{"wrongly refused", true, func(w *world, p *process) { p.refusals++ }},
	{"lease ends", true, func(w *world, p *process) { w.ends = time.Now() }},
	{"installation delivered again", false, func(w *world, p *process) { go p.save(w.pair("X", 0)) }},
	{"installed again", false, func(w *world, p *process) { go p.save(w.next()) }},
	{"removed", false, func(w *world, p *process) { go p.source.Delete(context.Background()) }},
	{"flushed", false, func(w *world, p *process) { go p.flush() }},
	{"operator renews", true, func(w *world, p *process) { go p.source.Get(context.Background(), Force) }},
	{"token refused", false, func(w *world, p *process) {
		go p.source.Get(context.Background(), Why{Refused: "access X.1"})
	}},
	{"Store set back", true, func(w *world, p *process) { w.stored = w.backup(); w.explainLoss() }},
	{"Store emptied", true, func(w *world, p *process) { w.stored = nil; w.explainLoss() }},
}

// next issues the authorization after the last; w.mu is held.
func (w *world) next() *grant {
	auth := string(rune(w.issued[len(w.issued)-1][0] + 1))
	w.issued = append(w.issued, auth)
	w.alive[auth] = 0
	return w.pair(auth, 0)
}

// backup returns the installation's first pair, as a backup has it.
func (w *world) backup() *grant {
	g := w.pair("X", 0)
	g.expiry = time.Now() // it is not of today
	return g
}

// explore calls run with every sequence of choices that it can make.
func explore(run func(choose func(options int) int)) (runs int) {
	var path, options []int
	for {
		at := 0
		run(func(n int) int {
			if at == len(path) {
				path, options = append(path, 0), append(options, n)
			}
			at++
			return path[at-1]
		})
		runs++
		path, options = path[:at], options[:at]
		for at > 0 && path[at-1]+1 == options[at-1] {
			at--
		}
		if at == 0 {
			return runs
		}
		path, options = path[:at], options[:at]
		path[at-1]++
	}
}

// schedule lets those that are stopped go on, one step at a time, in the order
// that choose says, with what else may happen beside them, each of it once.
// Time passes only while nobody is stopped.
func (w *world) schedule(choose func(options int) int, busy func() bool, others ...func()) {
	for idle := 0; idle < 40; {
		synctest.Wait()
		stopped := w.gate.stopped()
		if len(stopped) == 0 {
			if !busy() {
				break
			}
			idle++
			time.Sleep(200 * time.Millisecond)
			continue
		}
		n := choose(len(stopped) + len(others))
		if n < len(stopped) {
			w.gate.open(stopped[n])
			continue
		}
		n -= len(stopped)
		others[n]()
		others = append(others[:n:n], others[n+1:]...)
	}
}

// TestEveryOrderOfTwoProcessesWithOneFault enumerates: two processes whose
// token has run out, each order of their steps, each fault at each step of
// either.
func TestEveryOrderOfTwoProcessesWithOneFault(t *testing.T) {
	total := 0
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			runs := explore(func(choose func(int) int) {
				inWorld(t, func(w *world) {
					ps := w.start("A", "B")
					w.expire()
					w.gate.set(true, nil)
					left := 2
					for _, p := range ps {
						go func() {
							p.call()
							w.mu.Lock()
							left--
							w.mu.Unlock()
						}()
					}
					victim := ps[choose(2)]
					w.schedule(choose, func() bool {
						w.mu.Lock()
						defer w.mu.Unlock()
						return left > 0
					}, func() { w.strike(fault.name, fault.excuses, fault.strike, victim) })
					w.settle(ps...)
				})
				if t.Failed() {
					t.FailNow()
				}
			})
			t.Logf("%d orders", runs)
			total += runs
		})
	}
	t.Logf("%d orders in all", total)
}

func (w *world) strike(name string, excuses bool, strike func(*world, *process), p *process) {
	if name == "killed" {
		w.notef("%s is killed", p.name)
		strike(w, p)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notef("%s: %s", p.name, name)
	w.excused = w.excused || excuses
	strike(w, p)
}

// TestRandomOrdersOfThreeProcessesWithSeveralFaults draws by lot what is too
// much to be enumerated.
func TestRandomOrdersOfThreeProcessesWithSeveralFaults(t *testing.T) {
	first := *firstSeed
	if first == 0 {
		first = rand.Uint64N(1e12)
	}
	runs := uint64(*interleavings)
	if racetest.Enabled {
		runs /= 8
	}
	t.Logf("%d interleavings from -seed=%d", runs, first)
	for worker := range uint64(runtime.GOMAXPROCS(0)) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for seed := first + worker; seed < first+runs && !t.Failed(); seed += uint64(runtime.GOMAXPROCS(0)) {
				inWorld(t, func(w *world) {
					w.notef("-seed=%d", seed)
					w.random(rand.New(rand.NewPCG(seed, 0)))
				})
			}
		})
	}
}

func (w *world) random(rng *rand.Rand) {
	ps := w.start("A", "B", "C")
	// What the Store forgets cannot be told from what was removed, nor who was
	// installed while it was away: so a run has the one or the other.
	contents := rng.IntN(3) == 0
	w.gate.set(true, nil)
	for range 4 {
		if rng.IntN(3) > 0 {
			w.expire()
		}
		var left int
		count := func(n int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			left += n
		}
		for _, p := range ps {
			if rng.IntN(4) == 0 || !p.isAlive() {
				continue
			}
			count(1)
			go func() {
				defer count(-1)
				p.call()
			}()
		}
		var others []func()
		for range rng.IntN(4) {
			fault, i := faults[rng.IntN(len(faults))], rng.IntN(len(ps))
			switch fault.name {
			case "Store set back", "Store emptied":
				if !contents {
					continue
				}
			case "installed again", "removed":
				if contents {
					continue
				}
			}
			others = append(others, func() {
				if !ps[i].isAlive() {
					return
				}
				w.strike(fault.name, fault.excuses, fault.strike, ps[i])
				if fault.name == "killed" {
					ps[i] = w.process(ps[i].name + "'")
				}
			})
		}
		w.schedule(rng.IntN, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return left > 0
		}, others...)
		w.gate.set(false, nil)
		time.Sleep(time.Duration(1+rng.IntN(3)) * 20 * time.Second) // or who is stopped would be stalled
		w.gate.set(true, nil)
	}
	w.settle(ps...)
}
