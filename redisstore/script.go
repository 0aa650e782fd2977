package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A script runs as one step: nobody sees its keys in between. Each works on
// one key, so that a cluster has one slot for all of it, and each may run
// twice for one call, because go-redis repeats a command whose answer was
// lost: the second run finds what the first one did and answers the same.
var (
	//go:embed load.lua
	loadSource string
	//go:embed take.lua
	takeSource string
	//go:embed save.lua
	saveSource string
	//go:embed release.lua
	releaseSource string

	loadScript    = redis.NewScript(loadSource)
	takeScript    = redis.NewScript(takeSource)
	saveScript    = redis.NewScript(saveSource)
	releaseScript = redis.NewScript(releaseSource)
)

// run runs the script on the hash of that name, by its digest and, where
// Redis does not know that yet, by its text.
func (s *Store) run(ctx context.Context, script *redis.Script, name string, args ...any) *redis.Cmd {
	return script.Run(ctx, s.client, []string{name}, args...)
}

// bounded calls do and waits for it until ctx ends. go-redis heeds a
// cancellation only between its attempts, and a deadline only if
// ContextTimeoutEnabled is set; do may go on for as long as one of its
// attempts takes.
func bounded[T any](ctx context.Context, do func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	type reply struct {
		value T
		err   error
	}
	replied := make(chan reply, 1)
	go func() {
		value, err := do()
		replied <- reply{value, err}
	}()
	select {
	case a := <-replied:
		if end := ctx.Err(); a.err != nil && end != nil && !errors.Is(a.err, end) {
			a.err = fmt.Errorf("%w: %w", end, a.err)
		}
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
