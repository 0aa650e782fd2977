package renew

import (
	"context"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
)

// A grant from elsewhere, as an installation brings one, may be delivered twice,
// late, or by somebody who has put it together of others' tokens. So it takes the
// place of the one there is only if that is neither the same nor newer, and of an
// untrusted one only the pair that follows it is stored, which is proven by its
// exchange.

// Save stores a grant from elsewhere in place of the one there is, and goes on
// with it. replace returns g as it is stored over the grant that it replaces,
// the zero G if there is none.
// The failure is Outdated if g is older than what there is. An error of replace
// is what StoreFailure makes of it.
func (s *Source[G]) Save(ctx context.Context, g G, replace func(over G) (G, error)) *Failure {
	j, f := s.own(ctx, takeover)
	if f != nil {
		return f
	}
	j.given = g
	return s.do(j, func() *Failure {
		own, f := s.settle(ctx, j)
		if f != nil {
			return f
		}
		return s.overwrite(ctx, j, 0, func(_ context.Context, over G) (G, error) {
			var none G
			m, same, f := s.succession(own, over, g)
			if f != nil {
				return none, f
			}
			if same { // a verdict on it is lifted, one that is not written yet too
				m.Refused = Refusal{At: time.Now().Round(0).UTC()}
			}
			next, err := replace(s.living(over))
			if err != nil {
				return none, err
			}
			return s.out.With(next, m), nil
		})
	})
}

// Redeem exchanges the refresh token of a grant from elsewhere, which nobody
// vouches for, and stores the pair that follows it in place of the grant there is,
// over, the zero G if there is none. may says, before anything is spent, why g must
// not take its place. replace returns the next pair as it is stored, or why it is
// not to be; it may take a while, within the ctx that it gets.
//
// The failure is Outdated if g is the grant there is, or older: nothing is spent
// then. A pair that the Store does not take is used from memory, as after a
// renewal. When ctx ends, only the waiting does: what was spent is seen to.
func (s *Source[G]) Redeem(ctx context.Context, g G, may func(over G) error, replace func(ctx context.Context, over, next G) (G, error)) *Failure {
	j, f := s.own(ctx, takeover)
	if f != nil {
		return f
	}
	j.given = g
	done := make(chan *Failure, 1)
	go func() {
		done <- s.do(j, func() *Failure { return s.redeem(context.WithoutCancel(ctx), j, may, replace) })
	}()
	select {
	case f := <-done:
		return f
	case <-ctx.Done():
		return &Failure{Class: GaveUp, Err: ctxend.Of(ctx)}
	}
}

func (s *Source[G]) redeem(ctx context.Context, j *job[G], may func(over G) error, replace func(ctx context.Context, over, next G) (G, error)) *Failure {
	own, f := s.settle(ctx, j)
	if f != nil {
		return f
	}
	var none, next, proven G
	var refused bool
	requested := time.Now()
	f = s.overwrite(ctx, j, s.timeout, func(ctx context.Context, over G) (G, error) {
		m, same, f := s.succession(own, over, j.given)
		if same {
			f = &Failure{Class: Outdated}
		}
		if f == nil && next == none {
			if err := may(s.living(over)); err != nil {
				return none, err
			}
			next, f = s.fetch(ctx, j, s.newCurrent(j.given, nil), true, requested, func() *Failure { return nil })
		}
		if f != nil {
			return none, f
		}
		kept, err := replace(ctx, s.living(over), next)
		if refused = err != nil; refused {
			return none, err
		}
		m.Lineage = m.Lineage.next()
		proven = s.out.With(kept, m)
		return proven, nil
	})
	if f == nil || refused || proven == none || f.Class == Outdated {
		return f
	}
	// Its refresh token is spent, and this is the only copy of what it bought.
	j.cur = s.newCurrent(proven, nil)
	j.cur.unsaved.Store(true)
	j.note(Event{Kind: NotSaved, Failure: f})
	return nil
}

// settle saves the source's own pair first, if that is unsaved: the grant from
// elsewhere may be refused, and this Update takes the lease that a failed save has
// kept. It returns the source's own grant as it is before what is stored
// replaces it.
func (s *Source[G]) settle(ctx context.Context, j *job[G]) (own *Current[G], _ *Failure) {
	own = j.cur
	if own != nil && own.unsaved.Load() {
		if f := s.store(ctx, j, s.timeout); f != nil && f.Class != Missing && f.Class != Conflict && f.Class != Foreign {
			return own, f
		}
	}
	return own, nil
}

// succession returns the lineage of g, a grant from elsewhere, as it follows the
// one that is to be replaced, a deleted one included, or that it is older. own is
// what the source had at first. same: it is the very pair.
func (s *Source[G]) succession(own *Current[G], over, g G) (m Marks, same bool, _ *Failure) {
	v, w := s.out.View(g), s.viewOf(over)
	if w != nil && w.Deleted.IsZero() && w.Fence() == v.Fence() {
		return Marks{Lineage: w.FullLineage()}, true, nil
	}
	m.Lineage = v.FullLineage()
	if own != nil && own.fence == v.Fence() {
		m.Lineage = s.lineage(own) // whether it came with that or not
	}
	var replaced []Lineage
	if own != nil {
		replaced = append(replaced, s.lineage(own))
	}
	if w != nil {
		replaced = append(replaced, w.FullLineage())
	}
	for _, l := range replaced {
		if m.Lineage.OlderThan(l) {
			return m, false, &Failure{Class: Outdated}
		}
	}
	if len(replaced) > 0 {
		m.Lineage = m.Lineage.over(replaced[len(replaced)-1])
	}
	return m, false, nil
}

// living returns the grant that is to be replaced, the zero G if it is deleted:
// there is nothing in it to keep.
func (s *Source[G]) living(over G) (none G) {
	if w := s.viewOf(over); w != nil && w.Deleted.IsZero() {
		return over
	}
	return none
}
