package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// wantWoken checks that whoever waits through one Store is told of what ends
// through the other.
func wantWoken(t *testing.T, waiting, other *redisstore.Store) {
	t.Helper()
	for i := range 10 { // on a cluster, keys of both masters
		key := fmt.Sprint("member ", i)
		given, leave := waiting.Join(nameOf(t, waiting, key))
		eventually(t, func() bool {
			put(t, other, key, numbered(1))
			select {
			case <-given:
				return true
			default:
				return false
			}
		}, "the message that the lease was given back")
		leave()
	}
	eventually(t, func() bool { return !waiting.Listening() }, "the end of listening when nobody waits")
}

func TestWaitersAreWoken(t *testing.T) {
	s, c := openTest(t)
	wantWoken(t, s, newStore(c, s.Prefix))
}

func TestAThousandWaitersTakeOneConnection(t *testing.T) {
	o, err := redis.ParseURL(testURL(t))
	if err != nil {
		t.Fatal(err)
	}
	o.ClientName = "waiters-" + t.TempDir()[len(t.TempDir())-8:]
	_, c := openTest(t)
	named := dial(t, o)
	s := newStore(named, newPrefix(t, c))
	connections := func() (subscribed []string) {
		for line := range strings.Lines(c.ClientList(t.Context()).Val()) {
			if strings.Contains(line, " name="+o.ClientName+" ") && !strings.Contains(line, " sub=0 ") {
				subscribed = append(subscribed, line)
			}
		}
		return subscribed
	}
	var leave []func()
	for i := range 1000 {
		_, l := s.Join(nameOf(t, s, fmt.Sprint(i)))
		leave = append(leave, l)
	}
	eventually(t, func() bool {
		all := connections()
		return len(all) == 1 && strings.Contains(all[0], " sub=1000 ")
	}, "one connection with a thousand subscriptions")
	for _, l := range leave[1:] {
		l()
	}
	eventually(t, func() bool {
		all := connections()
		return len(all) == 1 && strings.Contains(all[0], " sub=1 ")
	}, "one connection with one subscription")
	leave[0]()
	eventually(t, func() bool { return len(connections()) == 0 }, "no connection when nobody waits")
}

// A user who may not use pub/sub waits a little longer, and that is all.
func TestWithoutMessagesWaitersPoll(t *testing.T) {
	own := startServer(t, "--appendonly", "yes")
	own.do("acl", "setuser", "app", "on", ">secret", "+@all", "~*", "resetchannels")
	c := dial(t, &redis.Options{Addr: own.addr, Username: "app", Password: "secret"})
	s, other := newStore(c, ""), newStore(c, "")
	var out logged
	s.Logger = slog.New(slog.NewTextHandler(&out, nil))
	held, end, ended := make(chan bool), make(chan bool), make(chan error, 2)
	go func() {
		ended <- s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			close(held)
			<-end
			return numbered(1), nil
		})
	}()
	await(t, held, "the first Update")
	go func() { ended <- other.Update(t.Context(), theKey, returning(numbered(2), nil)) }()
	eventually(t, other.Listening, "the second Update waiting")
	close(end)
	for range 2 {
		if err := await(t, ended, "an Update"); err != nil {
			t.Errorf("Update = %v", err)
		}
	}
	wantNumber(t, s, theKey, 2)
	settle(t, s, theKey)
	if lines := out.lines(); len(lines) != 0 {
		t.Errorf("logged %q; want nothing, the leases were given back", lines)
	}
}

// A server that takes a connection and says nothing is worse than none.
func TestContextBoundsACallThatIsNotAnswered(t *testing.T) {
	p := newProxy(t, "")
	s := redisstore.New(dial(t, &redis.Options{Addr: p.addr, ReadTimeout: -1}))
	for name, call := range map[string]func(context.Context) error{
		"Load":   func(ctx context.Context) error { _, err := s.Load(ctx, theKey); return err },
		"Update": func(ctx context.Context) error { return s.Update(ctx, theKey, returning(numbered(1), nil)) },
		"Keys": func(ctx context.Context) error {
			for _, err := range s.Keys(ctx) {
				return err
			}
			return nil
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		result := make(chan error, 1)
		go func() { result <- call(ctx) }()
		if err := await(t, result, name+" whose context has ended"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s = %v; want context.DeadlineExceeded", name, err)
		}
		cancel()
	}
}
