// Package redislimit shares the portals' budgets of calls between processes, through
// Redis: a portal counts all programs at one address together, so what each keeps by
// itself is refused all the same.
//
//	budget := redislimit.New(redisClient)
//	client := &http.Client{Transport: &limit.Transport{Budget: budget, Base: …}}
//
// Processes that share it have to be at the same address, as the portal sees it. Those
// at another one get a Prefix of their own.
package redislimit

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/b24go/b24oauth/limit"
)

// Budget is a [limit.Budget] in Redis. Make one with [New]; its fields are not changed
// after the first use. It is safe for concurrent use.
//
// If Redis cannot be had, each process keeps the limit for itself until it can: a call
// is not lost for that.
type Budget struct {
	// Rate and Burst are as of [limit.Process], and the same in all processes that share
	// the budget.
	Rate  float64
	Burst int

	// Prefix begins the names of all keys, behind the rate: of redis_rate. Empty:
	// b24oauth:limit: is taken.
	Prefix string

	// Logger hears of a Redis that cannot be had. Nil: nobody does.
	Logger *slog.Logger

	client  redis.UniversalClient
	limiter *redis_rate.Limiter

	mu    sync.Mutex // guards turns
	turns map[string]*turn
	own   limit.Process // while Redis is away
	once  sync.Once     // sets it up
}

// turn is whose it is to ask Redis for a portal: one caller of a process at a time, in
// any order, or a thousand that wait would all ask at once.
type turn struct {
	taken   chan struct{}
	waiting int
}

var _ limit.Budget = (*Budget)(nil)

// New returns a Budget in the client's database. The client stays the caller's.
func New(c redis.UniversalClient) *Budget {
	return &Budget{client: c, limiter: redis_rate.NewLimiter(c)}
}

// Wait implements [limit.Budget].
func (b *Budget) Wait(ctx context.Context, portal string) error {
	t := b.join(portal)
	defer b.leave(portal, t)
	select {
	case t.taken <- struct{}{}:
		defer func() { <-t.taken }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		wait, err := b.ask(ctx, portal)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			b.log(ctx, portal, err)
			return b.process().Wait(ctx, portal)
		case wait <= 0:
			return nil
		}
		if deadline, ends := ctx.Deadline(); ends && time.Until(deadline) < wait {
			return limit.NoRoom(portal)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask takes a place in the budget, or returns how long there is none.
func (b *Budget) ask(ctx context.Context, portal string) (time.Duration, error) {
	slow, err := b.client.Exists(ctx, b.key("slow:", portal)).Result()
	if err != nil {
		return 0, err
	}
	allowed := b.limit(slow > 0)
	res, err := b.limiter.Allow(ctx, b.key("", portal), allowed)
	if err != nil || res.Allowed > 0 {
		return 0, err
	}
	return max(res.RetryAfter, time.Millisecond), nil
}

// limit returns what a portal allows: half, and no burst, after it has refused a call.
// redis_rate counts in whole numbers, so it is a number in a minute.
func (b *Budget) limit(slow bool) redis_rate.Limit {
	perMinute := int(math.Round(cmp.Or(b.Rate, limit.DefaultRate) * 60))
	l := redis_rate.Limit{Rate: max(perMinute, 1), Period: time.Minute, Burst: cmp.Or(b.Burst, limit.DefaultBurst)}
	if slow {
		l.Rate, l.Burst = max(l.Rate/2, 1), 1
	}
	return l
}

// Exceeded implements [limit.Budget]. All processes that share the budget slow down.
func (b *Budget) Exceeded(portal string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := b.client.Set(ctx, b.key("slow:", portal), 1, limit.Calm).Err(); err != nil {
		b.log(ctx, portal, err)
		b.process().Exceeded(portal)
	}
}

func (b *Budget) key(kind, portal string) string {
	return cmp.Or(b.Prefix, "b24oauth:limit:") + kind + portal
}

func (b *Budget) process() *limit.Process {
	b.once.Do(func() { b.own.Rate, b.own.Burst = b.Rate, b.Burst })
	return &b.own
}

func (b *Budget) log(ctx context.Context, portal string, err error) {
	if b.Logger != nil {
		b.Logger.WarnContext(ctx, "b24oauth/redislimit: Redis cannot be had, so this process keeps the portal's limit by itself", slog.String("portal", portal), slog.Any("error", err))
	}
}

func (b *Budget) join(portal string) *turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.turns[portal]
	if t == nil {
		if b.turns == nil {
			b.turns = make(map[string]*turn)
		}
		t = &turn{taken: make(chan struct{}, 1)}
		b.turns[portal] = t
	}
	t.waiting++
	return t
}

func (b *Budget) leave(portal string, t *turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.waiting--; t.waiting == 0 {
		delete(b.turns, portal)
	}
}
