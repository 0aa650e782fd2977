package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scenario is one row of the table.
type scenario struct {
	title string
	conditions
	measure func(t *testing.T, s *subject, bubble bool) string

	// alone: no two callers at a time, so that nobody waits for a mutex and
	// every library can live in a bubble.
	alone bool

	// many measures the same for 10,000 callers, and for b24oauth alone: at a
	// mutex, and in real time, that takes seconds.
	many func(t *testing.T, s *subject, bubble bool) string

	ours string // what b24oauth must show
}

const expired = -time.Minute

var scenarios = []scenario{
	{
		title:      "refresh takes 50 ms: refreshes",
		conditions: conditions{left: expired, takes: 50 * time.Millisecond},
		measure:    refreshesFor(100),
		many:       refreshesFor(10_000),
		ours:       "1, also for 10,000",
	},
	{
		title:      "refresh refused in 10 ms: calls to the server",
		conditions: conditions{left: expired, takes: 10 * time.Millisecond, ends: refused},
		measure:    callsWhenRefused,
		ours:       "1",
	},
	{
		title:      "waiters with a 20 ms deadline, the refresh ends in 270 ms: return after",
		conditions: conditions{left: expired, takes: 300 * time.Millisecond},
		measure:    longestWait,
		ours:       "20 ms",
	},
	{
		title:      "the caller that started it gives up, others wait: refreshes",
		conditions: conditions{left: expired, takes: 300 * time.Millisecond},
		measure:    refreshesWithoutStarter,
		ours:       "1",
	},
	{
		title:      "token runs out during a renewal already in flight: refreshes at once",
		conditions: conditions{left: 100 * time.Millisecond, takes: 300 * time.Millisecond},
		measure:    refreshesAtOnce,
		ours:       "1",
	},
	{
		title:      "50 calls in 5 s while the token still works and the server fails: calls to the server, calls served",
		conditions: conditions{left: 50 * time.Second, takes: 10 * time.Millisecond, ends: failed},
		measure:    callsWhileFailing,
		alone:      true,
		ours:       "at most 3 per backoff step, 50 served",
	},
	{
		title:      "token still works, refresh takes 300 ms: callers that wait",
		conditions: conditions{left: 30 * time.Second, takes: 300 * time.Millisecond},
		measure:    waiting,
		ours:       "1",
	},
}

// answer is what a caller got.
type answer struct {
	waited time.Duration
	err    error
}

// crowd makes n calls at once, each by a caller that gives up after patience,
// and returns when all are answered.
func crowd(t *testing.T, s *subject, n int, patience time.Duration) []answer {
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			start := time.Now()
			err := s.call(ctx)
			answers[i] = answer{time.Since(start), err}
		})
	}
	wg.Wait()
	return answers
}

// patient is longer than anything takes.
const patient = time.Minute

// crowdBehind is a crowd of 99 that comes after one caller has started a
// refresh.
func crowdBehind(t *testing.T, s *subject, starter, after, patience time.Duration) []answer {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { crowd(t, s, 1, starter) })
	<-time.After(after)
	return crowd(t, s, 99, patience)
}

// figure is a cell: a number, and how many callers got no token though they
// all should.
func figure(n int, answers []answer) string {
	failed := 0
	for _, a := range answers {
		if a.err != nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Sprintf("%d, %d callers failed", n, failed)
	}
	return fmt.Sprint(n)
}

func refreshesFor(callers int) func(*testing.T, *subject, bool) string {
	return func(t *testing.T, s *subject, _ bool) string {
		answers := crowd(t, s, callers, patient)
		calls, _ := s.counts()
		return figure(calls, answers)
	}
}

func callsWhenRefused(t *testing.T, s *subject, _ bool) string {
	crowd(t, s, 100, patient)
	calls, _ := s.counts()
	return fmt.Sprint(calls)
}

// longestWait is exact in a bubble. Elsewhere a caller starts and returns a
// little late, so the nearer of the two possible moments is told.
func longestWait(t *testing.T, s *subject, bubble bool) string {
	const deadline, end = 20 * time.Millisecond, 270 * time.Millisecond
	answers := crowdBehind(t, s, patient, 300*time.Millisecond-end, deadline)
	longest := slices.MaxFunc(answers, func(a, b answer) int { return int(a.waited - b.waited) }).waited
	switch {
	case bubble:
	case longest < (deadline+end)/2:
		longest = deadline
	default:
		longest = end
	}
	return fmt.Sprintf("%d ms", longest.Milliseconds())
}

func refreshesWithoutStarter(t *testing.T, s *subject, _ bool) string {
	answers := crowdBehind(t, s, 20*time.Millisecond, 10*time.Millisecond, patient)
	calls, _ := s.counts()
	return figure(calls, answers)
}

func refreshesAtOnce(t *testing.T, s *subject, _ bool) string {
	answers := crowdBehind(t, s, patient, 150*time.Millisecond, patient)
	_, peak := s.counts()
	return figure(peak, answers)
}

func callsWhileFailing(t *testing.T, s *subject, _ bool) string {
	served := 0
	for range 50 {
		var wg sync.WaitGroup
		wg.Go(func() {
			if s.call(t.Context()) == nil {
				served++
			}
		})
		<-time.After(100 * time.Millisecond)
		wg.Wait()
	}
	if s.steps != nil {
		steps := s.steps()
		if calls, _ := s.counts(); bounded(steps, calls) {
			return fmt.Sprintf("at most 3 per backoff step, %d served", served)
		}
	}
	calls, _ := s.counts()
	return fmt.Sprintf("%d, %d served", calls, served)
}

// bounded reports whether all calls belong to failed renewals of at most three
// requests each, at least a second apart. How many there are is up to chance.
func bounded(steps []step, calls int) bool {
	var end time.Time
	for _, s := range steps {
		if s.requests > 3 || s.begin.Sub(end) < time.Second {
			return false
		}
		calls -= s.requests
		end = s.end
	}
	return len(steps) > 0 && calls == 0
}

func waiting(t *testing.T, s *subject, _ bool) string {
	answers := crowd(t, s, 100, patient)
	waited := 0
	for _, a := range answers {
		if a.waited > 150*time.Millisecond {
			waited++
		}
	}
	return figure(waited, answers)
}

// inBubble measures with a clock that is exact.
func inBubble(t *testing.T, sc scenario, open func(*testing.T, conditions) *subject) (cell string) {
	synctest.Test(t, func(t *testing.T) {
		cell = sc.measure(t, open(t, sc.conditions), true)
		<-time.After(patient) // for refreshes that nobody waits for to end
	})
	return cell
}

// inRealTime measures until two runs agree: on a busy machine callers may come
// too late for what the scenario is about.
func inRealTime(t *testing.T, sc scenario, l library) (cell string) {
	for range 6 {
		again := sc.measure(t, l.open(t, sc.conditions, false), false)
		if again == cell {
			return cell
		}
		cell = again
	}
	t.Errorf("no two runs agree, the last one says: %s", cell)
	return cell
}
