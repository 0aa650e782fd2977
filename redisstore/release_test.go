package redisstore_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// holdBack makes p hold back the next request for the script until let is
// called.
func holdBack(t *testing.T, p *proxy, digest string) (let func()) {
	deliver, let := context.WithCancel(context.Background())
	t.Cleanup(let)
	p.set(cut{digest: digest, when: late, times: 1, deliver: deliver.Done()})
	return let
}

func TestGivingTheLeaseBackIsNobodysWait(t *testing.T) {
	s, direct, p := openCut(t, 3)
	let := holdBack(t, p, redisstore.ReleaseDigest)
	takes, saves := p.count(redisstore.TakeDigest), p.count(redisstore.SaveDigest)
	put(t, s, theKey, numbered(2))
	wantNumber(t, direct, theKey, 2)

	// The next one does not ask for what it would not get, and poll.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Update(ctx, theKey, returning(numbered(9), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update while the lease is being given back = %v; want context.DeadlineExceeded", err)
	}
	let()
	put(t, s, theKey, numbered(3))
	wantNumber(t, direct, theKey, 3)
	takes, saves = p.count(redisstore.TakeDigest)-takes, p.count(redisstore.SaveDigest)-saves
	if takes != 2 || saves != 2 {
		t.Errorf("two Updates asked for the lease %d times and saved %d times; want twice", takes, saves)
	}
}

func TestAClientThatIsClosedAtOnceIsLoggedAndNothingElse(t *testing.T) {
	direct, _ := openTest(t)
	var client *redis.Client
	o, err := redis.ParseURL(testURL(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, o.Addr)
	o.Addr = p.addr
	client = dial(t, o)
	s := newStore(client, direct.Prefix)
	var out logged
	s.Logger = slog.New(slog.NewTextHandler(&out, nil))
	holdBack(t, p, redisstore.ReleaseDigest)
	put(t, s, theKey, numbered(1))
	client.Close()
	settle(t, s, theKey)
	eventually(t, func() bool {
		lines := out.lines()
		return len(lines) == 1 && strings.Contains(lines[0], "could not be given back")
	}, "one line that the lease could not be given back")
	wantNumber(t, direct, theKey, 1)
}

// A client without a timeout of its own must not keep a goroutine for ever,
// nor the next Update waiting for it.
func TestALeaseIsGivenBackInTimeOrNotAtAll(t *testing.T) {
	t.Parallel()
	direct, _ := openTest(t)
	s, p := behindProxy(t, direct.Prefix, func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = -1, -1 })
	holdBack(t, p, redisstore.ReleaseDigest)
	put(t, s, theKey, numbered(1))
	settle(t, s, theKey)
}
