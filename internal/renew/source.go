package renew

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A hundred requests meet an expired token at once. Each of them refreshing
// would spend the refresh token a hundred times, and all but one would be told
// invalid_grant; all of them queueing behind one lock would outwait their own
// deadlines, and fail one after the other if it fails. So callers read the
// current grant without a lock; when it no longer serves, one of them starts a
// job, which belongs to nobody, and each waits for it as long as its own
// context lets it.

// A Source has one grant, of a G, and renews it. [Source.Init] readies it. It is
// safe for concurrent use.
type Source[G comparable] struct {
	out     Outside[G]
	early   time.Duration // how long before its end a token is renewed
	timeout time.Duration // of an exchange, and of the waiting for exclusivity before it

	current atomic.Pointer[Current[G]] // what callers use; nil before the first Load and after a deletion

	mu       sync.Mutex   // guards what follows, never held while anything waits
	job      *job[G]      // what is being done about the grant; nil if nothing is
	astray   *exchange[G] // an exchange that was given up and has not returned; nil if there is none
	notNow   *notNow      // what keeps the next job from starting; nil if nothing does
	refusals int          // refused requests since the last renewal that was reported
}

// saveTimeout bounds the saving of a pair that was fetched.
const saveTimeout = 10 * time.Second

// Init readies a Source whose tokens are renewed early before they end, by
// exchanges that callers wait for at most timeout. It is called once, before
// all else.
func (s *Source[G]) Init(out Outside[G], early, timeout time.Duration) {
	s.out, s.early, s.timeout = out, early, timeout
}

// NeedsExclusively returns how long an Update must promise exclusivity before
// a refresh token is spent in it. The exchange takes one timeout and the
// saving its own; the second timeout is for a request that is on its way to
// the server when the exchange is given up: until it has arrived, nobody else
// may ask and take the server's answer to the same token for a verdict.
func NeedsExclusively(timeout time.Duration) time.Duration { return 2*timeout + saveTimeout }

// Why says why a caller cannot go on with the token it has. The zero value: it
// has none, or that is about to expire.
type Why struct {
	Refused   string // the access token that the portal refused, or answered with a redirect
	Ambiguous bool   // the refusal does not say that the token is to blame
	Host      string // where the portal redirected to
	force     bool   // an operator wants a new token, whatever the state of this one
	look      bool   // the caller has to know the grant, whatever the state of its token
}

var (
	Force = Why{force: true} // an operator's reason: a new token now
	Look  = Why{look: true}  // the grant itself is asked for, and no token of it
)

// blames reports whether the portal is the reason: it refused the token of c,
// and not one before it, or redirected. How often it may be is bounded.
func blames[G comparable](why Why, c *Current[G]) bool {
	return why.Host != "" || why.Refused != "" && why.Refused == c.access
}

// Fresh returns the current grant if no job is due at that Unix time in
// nanoseconds, and nil otherwise. It takes no lock.
func (s *Source[G]) Fresh(now int64) *Current[G] {
	if c := s.current.Load(); c != nil && now <= c.staleAt && !c.unsaved.Load() {
		return c
	}
	return nil
}

// Known returns the current grant, whatever the state of its token; nil if
// none is known.
func (s *Source[G]) Known() *Current[G] { return s.current.Load() }

// Busy reports whether a job runs, or a pair waits to be saved.
func (s *Source[G]) Busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current.Load()
	return s.job != nil || s.astray != nil || c != nil && c.unsaved.Load()
}

// Get returns a grant that serves a caller with this reason. It waits only for
// a job that this caller cannot do without, and for the renewal that it has
// started itself as long as Patience says.
func (s *Source[G]) Get(ctx context.Context, why Why) (*Current[G], *Failure) {
	if why.Refused != "" && why.Host == "" {
		s.mu.Lock()
		s.refusals++
		s.mu.Unlock()
	}
	for own := 0; own < 2; {
		c, j, started, failure := s.join(why)
		switch {
		case failure != nil:
			return nil, failure
		case j == nil, c != nil && (!started || c.fresh(time.Now())):
			return s.taken(c, why), nil // the token works; only who starts its renewal waits for it
		}
		failure = s.awaitGrant(ctx, j, why, c != nil)
		c = s.current.Load()
		switch {
		case c.serves(why, time.Now()):
			return s.taken(c, why), nil
		case failure != nil && failure.Class == GaveUp && ctx.Err() == nil:
			continue // the token that worked has run out meanwhile
		case failure != nil:
			return nil, failure
		case !j.ended.Load() || j.kind != renewal || j.why != why:
			continue // it was another's job and left this caller's reason open
		case j.failure != nil:
			return nil, j.failure
		case why.force && c != nil:
			return c, nil
		case why.force:
			return nil, &Failure{Class: Missing} // deleted since
		}
		own++ // its pair is superseded already
	}
	return nil, &Failure{Class: Churning}
}

// awaitGrant waits for the job, or until there is a grant that serves. With a
// token that works it waits for a newer one, and not for long.
func (s *Source[G]) awaitGrant(ctx context.Context, j *job[G], why Why, works bool) *Failure {
	if !works {
		return s.await(ctx, j, func() bool { return s.current.Load().serves(why, time.Now()) })
	}
	ctx, cancel := context.WithTimeout(ctx, Patience(ctx))
	defer cancel()
	return s.await(ctx, j, func() bool { return false })
}

// Patience is how long a caller waits for what it can do without: a renewal
// that hangs must not use up the deadline of a request whose token works.
func Patience(ctx context.Context) time.Duration {
	const most = time.Second
	if deadline, ok := ctx.Deadline(); ok {
		return min(most, time.Until(deadline)/4)
	}
	return most
}

// taken notes that the token was given for an ambiguous refusal: if it is
// refused as well, another renewal would help no more.
func (s *Source[G]) taken(c *Current[G], why Why) *Current[G] {
	if why.Ambiguous {
		c.ambiguous.Store(true)
	}
	return c
}

// join decides what a caller does: go on with c (no job, or one that it need
// not wait for), fail, or wait for the job.
func (s *Source[G]) join(why Why) (c *Current[G], j *job[G], started bool, _ *Failure) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.current.Load(); !c.serves(why, now) {
		c = nil
	}
	n := s.notNow.orNothing()
	renew := c != nil && !c.fresh(now) && !now.Before(n.exchange)
	save := c != nil && c.unsaved.Load() && !now.Before(n.save)
	switch {
	case c != nil && (why.look || !renew && !save):
		return c, nil, false, nil
	case s.job != nil:
		return c, s.job, false, nil
	case why.force:
	case c == nil && n.failure != nil && now.Before(n.reload):
		return nil, nil, false, n.failure
	case c == nil && n.declined != nil && n.declinedFor == why && now.Before(n.declinedUntil):
		return nil, nil, false, n.declined
	}
	j = s.begin(renewal, why)
	go s.do(j, func() *Failure { return s.renew(j) })
	return c, j, true, nil
}

// Stored returns the grant as it is stored, or the newer one that the Store
// does not have yet. It renews nothing.
func (s *Source[G]) Stored(ctx context.Context) (G, *Failure) {
	var none G
	c := s.current.Load()
	if c != nil && c.unsaved.Load() {
		return c.Grant, nil
	}
	g, err := s.out.Load(ctx)
	if err != nil {
		return none, s.storeFailure(err, c)
	}
	switch v := s.viewOf(g); {
	case v == nil || !v.Deleted.IsZero():
		return none, &Failure{Class: Missing}
	case v.Foreign != nil:
		return none, &Failure{Class: Foreign, Err: v.Foreign}
	}
	return g, nil
}

// viewOf returns what is to be known of g, nil if that is none.
func (s *Source[G]) viewOf(g G) *View {
	var none G
	if g == none {
		return nil
	}
	v := s.out.View(g)
	return &v
}

// storeFailure says what an error of the Store comes down to, without the
// tokens of the grant of c and of the one that callers use. A *Failure in err,
// which fn has returned, is the answer itself.
func (s *Source[G]) storeFailure(err error, c *Current[G], others ...G) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	for _, known := range []*Current[G]{c, s.current.Load()} {
		if known != nil {
			others = append(others, known.Grant)
		}
	}
	return s.out.StoreFailure(err, others...)
}
