package redisstore

import (
	"context"
	"time"
)

// A reading of Redis' clock says what it showed at a moment of this machine's.
type reading struct {
	redis int64 // Unix milliseconds
	here  time.Time
}

// end returns the end of ctx by Redis' clock, in Unix milliseconds, or "" if
// ctx has no deadline or there is no reading yet. Without it, a request for
// the lease that reaches Redis after its asker has gone takes the lease for
// nobody, and everybody waits until it runs out.
//
// The end is too early by as much as the answer with the reading took to come
// here, and never too late for that reason. It is wrong, either way, if the
// clock was set since, or is another server's: then Redis calls the asker
// late, ask has a new reading by that answer, and asks again.
func (r *reading) end(ctx context.Context) any {
	deadline, ok := ctx.Deadline()
	if !ok || r == nil {
		return ""
	}
	return r.redis + deadline.Sub(r.here).Milliseconds()
}
