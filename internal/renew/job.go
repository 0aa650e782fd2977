package renew

import (
	"context"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
)

// Two that work on one grant at once would each hold a pair that the other
// does not know, and one of the two would be lost. So whatever is done about a
// grant is a job, and a Source has one at a time. A job belongs to no caller:
// each may stop waiting for it, and it ends all the same, within its own
// bounds.

// kind says what a job is to bring about.
type kind int

const (
	renewal  kind = iota + 1 // a token that answers the job's reason
	saving                   // the pair in the Store that a job before it could not save
	takeover                 // a grant from elsewhere in place of the one there is
	deletion                 // a tombstone in place of the grant
	flushing                 // the unsaved pair in the Store, while the program ends
)

// job is what is being done about the grant. Its goroutine alone touches it,
// but for the marks by which others wait for it.
type job[G comparable] struct {
	kind    kind
	why     Why // of a renewal
	started time.Time
	cur     *Current[G] // the grant to go on with; what callers use is s.current
	given   G           // takeover: the grant from elsewhere

	attempts int  // requests sent to the server
	fetched  bool // a pair was fetched
	unread   bool // the Store could not be read, or has nothing to go on with
	events   []Event
	broken   bool // a look at the Store has panicked, which is noted

	hurry     chan struct{} // saving: holds one when somebody waits for the source, and must not wait for the next attempt
	exclusive bool          // fn of an Update has begun; guarded by Source.mu
	alarm     *time.Timer   // lets go who waits when the job goes on for too long

	failure *Failure // what came of it; written before ended is set
	ended   atomic.Bool
	late    atomic.Bool // the server has not answered in time, and its answer is still waited for
	overrun atomic.Bool
	news    atomic.Pointer[chan struct{}] // closed and replaced when what callers see has changed
}

// begin makes the source's next job. s.mu is held, and there is none.
func (s *Source[G]) begin(k kind, why Why) *job[G] {
	j := &job[G]{kind: k, why: why, started: time.Now(), cur: s.current.Load(), hurry: make(chan struct{}, 1)}
	news := make(chan struct{})
	j.news.Store(&news)
	j.alarm = time.AfterFunc(s.limit(), func() {
		j.overrun.Store(true)
		j.announce()
	})
	s.job = j
	return j
}

// setAlarm sets when those who wait for the job are let go, as an Update of it
// begins to wait for exclusivity, or has it. For a Save or a deletion that may
// take as long as its caller likes, which is not for others to wait.
func (s *Source[G]) setAlarm(j *job[G], exclusive bool) {
	switch {
	case j.kind != takeover && j.kind != deletion:
	case exclusive:
		j.overrun.Store(false)
		j.alarm.Reset(s.limit())
	default:
		j.alarm.Reset(s.timeout)
	}
}

// limit is longer than any job takes that has exclusivity, or waits for it
// within bounds, if its Store keeps its contract.
func (s *Source[G]) limit() time.Duration { return 3*s.timeout + 2*saveTimeout }

func (j *job[G]) announce() {
	next := make(chan struct{})
	close(*j.news.Swap(&next))
}

// await returns when served says so, the job has ended or goes on for too
// long, or ctx ends.
func (s *Source[G]) await(ctx context.Context, j *job[G], served func() bool) *Failure {
	for {
		news := *j.news.Load()
		switch {
		case j.ended.Load() || served():
			return nil
		case j.overrun.Load():
			return s.overran(j)
		case j.late.Load():
			return &Failure{Class: Late}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return &Failure{Class: GaveUp, Err: ctxend.Of(ctx)}
		}
	}
}

// overran says why the job goes on for too long.
func (s *Source[G]) overran(j *job[G]) *Failure {
	s.mu.Lock()
	waits := !j.exclusive
	s.mu.Unlock()
	if waits && (j.kind == takeover || j.kind == deletion) {
		return s.storeFailure(errWaitOver, nil)
	}
	return &Failure{Class: Overrun}
}

// do does a job. Whatever the outside does, return, panic or end the
// goroutine, the source is left in order and callers are let go.
func (s *Source[G]) do(j *job[G], work func() *Failure) (failure *Failure) {
	failure = &Failure{Class: Vanished}
	defer func() { s.end(j, failure) }()
	defer func() {
		if v := recover(); v != nil {
			p, ok := v.(*PanicError)
			if !ok {
				p = &PanicError{v, debug.Stack()}
			}
			failure = &Failure{Class: Panicked, Err: p}
			j.note(Event{Kind: Broken, Failure: failure})
		}
	}()
	return work()
}

// end publishes what came of a job and what it means for the next one, and
// begins that if a pair is left to be saved.
func (s *Source[G]) end(j *job[G], failure *Failure) {
	now := time.Now()
	s.mu.Lock()
	n := s.notNow.orNothing()
	s.report(j, &n, failure, now)
	s.current.Store(j.cur)
	s.remember(j, &n, failure, now)
	s.job = nil
	if unsaved := j.cur != nil && j.cur.unsaved.Load(); unsaved && (j.fetched || j.kind == takeover) {
		next := s.begin(saving, Why{})
		go s.do(next, func() *Failure { return s.keepSaving(next) })
	}
	s.mu.Unlock()
	j.failure = failure
	// Callers wait until the events are told: a program that ends with the
	// failure would end without a word of it in its log.
	defer func() { // even if telling ends the goroutine
		j.alarm.Stop()
		j.ended.Store(true)
		j.announce()
	}()
	for _, e := range j.events {
		s.out.Report(e)
	}
}

// own waits until no job runs, however long that takes while ctx lasts, and
// begins one of the caller's.
func (s *Source[G]) own(ctx context.Context, k kind) (*job[G], *Failure) {
	for {
		s.mu.Lock()
		if s.job == nil {
			j := s.begin(k, Why{})
			s.mu.Unlock()
			return j, nil
		}
		s.mu.Unlock()
		if f := s.settled(ctx); f != nil {
			return nil, f
		}
	}
}

// settled waits until the job that runs has ended, if one does.
func (s *Source[G]) settled(ctx context.Context) *Failure {
	s.mu.Lock()
	j := s.job
	s.mu.Unlock()
	if j == nil {
		return nil
	}
	for {
		news := *j.news.Load()
		if j.ended.Load() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return &Failure{Class: GaveUp, Err: ctxend.Of(ctx)}
		}
	}
}

// note keeps an event until the job's end: whoever hears of it may ask for a
// token, and would wait for this very job.
func (j *job[G]) note(e Event) {
	if c := j.cur; c != nil && e.Access == "" {
		e.Access = c.access
	}
	e.Duration, e.Attempts = time.Since(j.started), j.attempts
	j.events = append(j.events, e)
}

// report completes the events of a renewal, and notes that it failed, unless
// that was reported already: the Store is looked at every second while callers
// come, and a log line every second that it has nothing, or is down, would bury
// the others. s.mu is held.
func (s *Source[G]) report(j *job[G], n *notNow, f *Failure, now time.Time) {
	for i := range j.events {
		if j.events[i].Kind == Renewed {
			j.events[i].Refusals, s.refusals = s.refusals, 0
		}
	}
	if j.kind != renewal {
		return // who asked for the other kinds has their result
	}
	switch {
	case f == nil:
	case f.Declined() && n.declined != nil && n.declinedFor == j.why && f.Class == n.declined.Class:
	case !f.Declined() && f.repeats(n.failure):
	case f.ofStore() && j.cur != nil && j.cur.unsaved.Load() && j.cur.fresh(now): // only the saving failed, which is reported as such
	default:
		j.note(Event{Kind: NotRenewed, Failure: f})
	}
	ofStore := func(e Event) bool { return e.Kind == NotSaved || e.Failure != nil && e.Failure.ofStore() }
	switch {
	case now.Before(n.tellStore):
		j.events = slices.DeleteFunc(j.events, ofStore)
	case slices.ContainsFunc(j.events, ofStore):
		n.tellStore = now.Add(backoff(n.storeSteps))
		n.storeSteps++
	}
}
