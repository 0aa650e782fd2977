package renew

import (
	"context"
	"time"
)

// maxRounds bounds how often a job starts over because the Store changed under
// it.
const maxRounds = 3

// renew works until the grant answers the job's reason, or fails.
func (s *Source[G]) renew(j *job[G]) *Failure {
	for range maxRounds {
		if f := s.reload(j); f != nil {
			j.unread = true
			return f
		}
		if j.cur.unsaved.Load() {
			// Saved before it is refreshed: the answer to a refresh could be
			// lost, and this pair with it.
			switch f := s.store(context.Background(), j, s.timeout); {
			case f != nil && f.Class == Conflict:
				continue
			case f != nil:
				return s.verdictOr(f, j)
			}
		}
		if j.served() {
			return nil
		}
		if f := s.declines(j.cur, j.why); f != nil {
			return f
		}
		if again, f := s.exchange(j); !again {
			return f
		}
	}
	return &Failure{Class: Churning}
}

// verdictOr returns the verdict on the job's pair, if there is one that could
// not be written for the failure f, and else f: with a dead pair, who calls
// cannot wait for the Store to get well.
func (s *Source[G]) verdictOr(f *Failure, j *job[G]) *Failure {
	if j.cur != nil && !j.why.force {
		if d := s.declines(j.cur, j.why); d != nil && d.Class == Refused {
			return d
		}
	}
	return f
}

// served reports whether the job's grant serves those who wait for it.
func (j *job[G]) served() bool {
	switch {
	case j.why.force:
		return j.fetched
	case j.why.look:
		return true
	}
	now := time.Now()
	return j.cur.serves(j.why, now) && j.cur.fresh(now)
}

// reload reads the Store, without exclusivity, and shows callers what is newer
// there, so that nobody waits for the rest of the job whom it serves.
func (s *Source[G]) reload(j *job[G]) *Failure {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	stored, err := s.out.Load(ctx)
	if err != nil {
		return s.storeFailure(err, j.cur)
	}
	f := s.reconcile(j, stored)
	s.publish(j)
	return f
}

// publish shows callers the job's grant, which is stored or was shown before.
func (s *Source[G]) publish(j *job[G]) {
	if s.current.Swap(j.cur) != j.cur {
		j.announce()
	}
}

// reconcile decides between the stored grant and the source's own, by their
// lineage alone. The newer one is the job's from then on: a source's own is
// marked as unsaved if an older one is stored, or nothing, since nothing means
// that the Store was emptied.
func (s *Source[G]) reconcile(j *job[G], stored G) *Failure {
	own, v := j.cur, s.viewOf(stored)
	switch {
	case v != nil && v.Foreign != nil && v.Deleted.IsZero():
		return &Failure{Class: Foreign, Err: v.Foreign}
	case v == nil && own == nil:
		return &Failure{Class: Missing}
	case v == nil, own != nil && v.FullLineage().OlderThan(s.lineage(own)):
		own.unsaved.Store(true)
	case !v.Deleted.IsZero():
		j.cur = nil // deleted: dropped even if unsaved, and never written back
		return &Failure{Class: Missing}
	case own == nil:
		j.cur = s.newCurrent(stored, nil)
	case s.same(own, v):
		own.unsaved.Store(false)
	case own.unsaved.Load() && own.fence == v.Fence() && s.refusal(own).At.After(v.Refused.At):
		// Our verdict on the very pair could not be written yet.
	default:
		s.adopt(j, stored)
	}
	return nil
}

func (s *Source[G]) lineage(c *Current[G]) Lineage {
	v := s.out.View(c.Grant)
	return v.FullLineage()
}

func (s *Source[G]) refusal(c *Current[G]) Refusal { return s.out.View(c.Grant).Refused }

// same reports whether the stored grant is the source's own, its verdict
// included.
func (s *Source[G]) same(own *Current[G], stored *View) bool {
	l, m := s.lineage(own), stored.FullLineage()
	r := s.refusal(own)
	return own.access == stored.Access && own.fence == stored.Fence() && l.Root == m.Root && l.Generation == m.Generation &&
		r.Code == stored.Refused.Code && r.At.Equal(stored.Refused.At)
}

// adopt makes the stored grant the job's.
func (s *Source[G]) adopt(j *job[G], stored G) {
	old := j.cur
	j.cur = s.newCurrent(stored, old)
	if j.cur.access != old.access {
		j.note(Event{Kind: Adopted})
	}
	j.noteMove(old)
}

func (j *job[G]) noteMove(old *Current[G]) {
	if old.home != j.cur.home {
		j.note(Event{Kind: Moved, Home: j.cur.home})
	}
}

// exchange asks for exclusivity and, if the grant still needs it then, for a
// new pair, which is stored before exchange returns. again: the Store holds
// another grant now, and all starts over.
func (s *Source[G]) exchange(j *job[G]) (again bool, _ *Failure) {
	var (
		none      G
		verdict   *Failure
		fetched   bool
		requested = time.Now()
	)
	err := s.update(context.Background(), j, s.timeout, func(ctx context.Context, stored G) (G, error) {
		if f := s.reconcile(j, stored); f != nil {
			return none, f
		}
		if j.cur.unsaved.Load() { // an older one is stored: ours goes back before it is spent
			return j.cur.Grant, nil
		}
		spent := j.cur
		next, f := s.fetch(ctx, j, spent, !spent.serves(j.why, time.Now()), requested, func() *Failure { return s.declines(spent, j.why) })
		switch {
		case f != nil && f.Class == Refused && f.At.IsZero(): // by the server, just now
			verdict = f
			s.markRefused(j, f)
		case f != nil:
			return none, f
		case next == none:
			return none, nil
		default:
			fetched = true
			s.advance(j, next)
		}
		return j.cur.Grant, nil
	})
	switch {
	case err == nil:
		j.cur.unsaved.Store(false)
		return verdict == nil && !j.served(), verdict
	case fetched:
		s.notSaved(j, err)
		return false, nil // used from memory; the job's end begins the saving
	}
	f := s.storeFailure(err, j.cur)
	switch {
	case verdict != nil && f.Class != Conflict:
		return false, verdict // kept in memory until it can be written
	case f.Class == Conflict:
		return true, nil
	case verdict == nil && j.served():
		return false, nil // another process has renewed the grant while this one waited
	}
	return false, f
}

// advance makes next, fetched with the current refresh token, the job's grant:
// unsaved until the Store has it.
func (s *Source[G]) advance(j *job[G], next G) {
	old := j.cur
	l := s.lineage(old)
	j.cur = s.newCurrent(s.out.With(next, Marks{Lineage: l.next()}), old)
	j.cur.unsaved.Store(true)
	j.fetched = true
	if blames(j.why, old) {
		s.mu.Lock()
		n := s.notNow.orNothing()
		n.renewedForRefusal(time.Now())
		s.notNow = &n
		s.mu.Unlock()
	}
	if j.why.Host != "" && j.cur.home != j.why.Host {
		j.cur.unconfirmed(j.why.Host)
	}
	j.note(Event{Kind: Renewed})
	j.noteMove(old)
}

// markRefused writes the server's verdict into the job's grant, or every process
// would ask the server about a dead refresh token again.
func (s *Source[G]) markRefused(j *job[G], f *Failure) {
	f.At = time.Now().Round(0).UTC()
	g := s.out.With(j.cur.Grant, Marks{Lineage: s.lineage(j.cur), Refused: Refusal{f.Code, f.At}})
	j.cur = s.newCurrent(g, j.cur)
	j.cur.unsaved.Store(true)
}

// notSaved notes that the Store did not take the job's grant.
func (s *Source[G]) notSaved(j *job[G], err error) *Failure {
	f := s.storeFailure(err, j.cur)
	if j.kind == renewal || j.kind == saving { // who asked for the other kinds has the failure
		j.note(Event{Kind: NotSaved, Failure: f})
	}
	return f
}
