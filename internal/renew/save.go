package renew

import (
	"context"
	"errors"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
)

// store saves the unsaved grant, unless the Store has a newer one by now, which
// is adopted instead.
func (s *Source[G]) store(ctx context.Context, j *job[G], wait time.Duration) *Failure {
	var none G
	err := s.update(ctx, j, wait, func(_ context.Context, stored G) (G, error) {
		if f := s.reconcile(j, stored); f != nil {
			return none, f
		}
		if !j.cur.unsaved.Load() {
			return none, nil
		}
		return j.cur.Grant, nil
	})
	if err == nil {
		j.cur.unsaved.Store(false)
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok && f.Class == Missing {
		return f // deleted: nothing is left to save
	}
	return s.notSaved(j, err)
}

const (
	firstSaveInterval = 100 * time.Millisecond // between two attempts to save a pair, doubled each time
	lastSaveInterval  = time.Second            // of Flush, whose caller waits
)

// keepSaving tries to save a pair that the job before this one could not save,
// until its time is up. Later calls and Flush go on with it.
func (s *Source[G]) keepSaving(j *job[G]) *Failure {
	end := j.started.Add(saveTimeout)
	for interval := firstSaveInterval; time.Until(end) > interval; interval *= 2 {
		pause := time.NewTimer(interval)
		select {
		case <-pause.C:
		case <-j.hurry: // Flush goes on with it at once
			pause.Stop()
			return nil
		}
		left := time.Until(end)
		if left <= 0 { // the process was stopped meanwhile
			break
		}
		if f := s.store(context.Background(), j, left); f == nil || f.Class == Missing {
			return f
		}
	}
	return nil
}

// Flush waits for the job that runs, and saves the pair that it left unsaved,
// if any. It tries again until ctx ends, or for as long as a save may take if
// ctx has no deadline. slots bounds how many Sources try at a time; who waits
// for a job has none.
func (s *Source[G]) Flush(ctx context.Context, slots chan struct{}) *Failure {
	var began time.Time // of the attempts, without the waiting for a job
	for interval := firstSaveInterval; ; interval = min(2*interval, lastSaveInterval) {
		s.endPauses()
		if f := s.settled(ctx); f != nil {
			return f
		}
		if f := s.returned(ctx); f != nil {
			return f
		}
		if !s.Busy() {
			return nil
		}
		if began.IsZero() {
			began = time.Now()
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return &Failure{Class: GaveUp, Err: ctxend.Of(ctx)}
		}
		f := s.flush(ctx)
		<-slots
		if f == nil || f.Class == Missing {
			return nil
		}
		if _, limited := ctx.Deadline(); !limited && time.Since(began) >= saveTimeout {
			return f
		}
		again := time.NewTimer(interval)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return f
		}
	}
}

// endPauses ends a job that pauses between attempts to save: Flush tries at once.
func (s *Source[G]) endPauses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.job; j != nil && j.kind == saving {
		select {
		case j.hurry <- struct{}{}:
		default: // somebody else has said so
		}
	}
}

// flush saves the unsaved pair, if there is one, in a job of its own.
func (s *Source[G]) flush(ctx context.Context) *Failure {
	j, f := s.own(ctx, flushing)
	if f != nil {
		return f
	}
	return s.do(j, func() *Failure {
		if j.cur == nil || !j.cur.unsaved.Load() {
			return nil
		}
		return s.store(ctx, j, s.timeout)
	})
}

// Delete stores a tombstone in place of the grant. Without it a process that
// still has the pair would bring the grant back, and so would an installation
// that is delivered again.
func (s *Source[G]) Delete(ctx context.Context) *Failure {
	j, f := s.own(ctx, deletion)
	if f != nil {
		return f
	}
	return s.do(j, func() *Failure {
		return s.overwrite(ctx, j, 0, func(_ context.Context, over G) (G, error) {
			var none G
			v := s.viewOf(over)
			if v == nil || !v.Deleted.IsZero() {
				return none, nil
			}
			l := Lineage{Root: randomRoot()}.over(v.FullLineage())
			return s.out.With(over, Marks{Lineage: l, Deleted: time.Now().Round(0).UTC()}), nil
		})
	})
}

// overwrite stores what next returns for the grant that is to be replaced: the
// newer one of the source's own and the stored one, which is the job's then, or a
// foreign or a deleted one that is stored; the zero G if there is none. wait bounds
// the waiting for exclusivity; 0: only ctx does.
func (s *Source[G]) overwrite(ctx context.Context, j *job[G], wait time.Duration, next func(ctx context.Context, over G) (G, error)) *Failure {
	for range maxRounds {
		var written, none G
		err := s.update(ctx, j, wait, func(ctx context.Context, stored G) (_ G, err error) {
			over := stored
			switch f := s.reconcile(j, stored); {
			case f == nil:
				over = j.cur.Grant
			case f.Class != Missing && f.Class != Foreign:
				return none, f
			}
			written, err = next(ctx, over)
			return written, err
		})
		switch {
		case err == nil && written == none:
			return nil
		case err == nil:
			j.cur = nil
			if v := s.viewOf(written); v.Deleted.IsZero() {
				j.cur = s.newCurrent(written, nil)
			}
			return nil
		}
		if f := s.storeFailure(err, j.cur, j.given); f.Class != Conflict {
			return f
		}
	}
	return &Failure{Class: Churning}
}
