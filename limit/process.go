package limit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What a portal of any plan allows: two calls in a second and fifty at once, of which five
// are left for those that are longer on their way than the ones before them. One of the
// Enterprise plan allows five, and 250.
const (
	DefaultRate  = 2
	DefaultBurst = 45
)

// Calm is how long less is allowed after a portal has refused a call: its bucket of fifty
// runs empty in 25 seconds.
const Calm = 30 * time.Second

// Process is the budget of one process, in which calls are sent in the order in which
// they came. The zero value is ready for use. After a refusal half of the Rate is left, and
// no burst.
type Process struct {
	// Rate is how many calls of a portal are allowed in a second, and Burst how many at
	// once after a pause. 0: DefaultRate and DefaultBurst. They are not changed after
	// the first use.
	Rate  float64
	Burst int

	mu      sync.Mutex // guards portals
	portals map[string]*portal
}

var _ Budget = (*Process)(nil)

// portal is what is left of a portal's budget.
type portal struct {
	mu      sync.Mutex // guards what follows
	limiter *rate.Limiter
	slow    time.Time // until when less is allowed; zero: it is not
}

// mostPortals is at how many portals those are forgotten that nobody has called for a
// while.
const mostPortals = 1000

// Wait implements [Budget].
func (b *Process) Wait(ctx context.Context, name string) error {
	err := b.limiter(b.portal(name)).Wait(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return NoRoom(name)
}

// NoRoom is the error of a [Budget] that has no room for a call before the end of its
// context. It is [context.DeadlineExceeded].
func NoRoom(portal string) error {
	return fmt.Errorf("b24oauth/limit: too many calls of %s wait for its budget: this one would have to wait for longer than its context lasts: %w", portal, context.DeadlineExceeded)
}

// Exceeded implements [Budget].
func (b *Process) Exceeded(name string) {
	p := b.portal(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = time.Now().Add(Calm)
	p.limiter.SetLimit(b.rate() / 2)
	p.limiter.SetBurst(1)
}

// limiter returns that of a portal, which gets its budget back if it was left alone for
// long enough: as much of the burst as has come together since.
func (b *Process) limiter(p *portal) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.slow.IsZero() && now.After(p.slow) {
		p.limiter = rate.NewLimiter(b.rate(), b.burst())
		if missing := b.burst() - int(now.Sub(p.slow).Seconds()*float64(b.rate())); missing > 0 {
			p.limiter.AllowN(now, missing)
		}
		p.slow = time.Time{}
	}
	return p.limiter
}

func (b *Process) portal(name string) *portal {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.portals[name]
	if ok {
		return p
	}
	if len(b.portals) >= mostPortals {
		for other, p := range b.portals {
			if b.limiter(p).Tokens() >= float64(b.burst()) { // as one that is made anew
				delete(b.portals, other)
			}
		}
	}
	if b.portals == nil {
		b.portals = make(map[string]*portal)
	}
	p = &portal{limiter: rate.NewLimiter(b.rate(), b.burst())}
	b.portals[name] = p
	return p
}

func (b *Process) rate() rate.Limit {
	if b.Rate > 0 {
		return rate.Limit(b.Rate)
	}
	return DefaultRate
}

func (b *Process) burst() int {
	if b.Burst > 0 {
		return b.Burst
	}
	return DefaultBurst
}
