package redisstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/redis/go-redis/v9"
)

// wantNoExchange checks that an Update ends before its fn, with that advice.
func wantNoExchange(t *testing.T, c redis.UniversalClient, advice string) {
	t.Helper()
	err := newStore(c, "").Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called although nothing can be saved")
		return nil, nil
	})
	if err == nil || !strings.Contains(err.Error(), advice) {
		t.Errorf("Update = %v; want it to say %q", err, advice)
	}
}

func TestAReplicaRefusesTheLease(t *testing.T) {
	for _, stored := range []bool{false, true} {
		own := startServer(t)
		if stored {
			put(t, newStore(own.client(), ""), theKey, numbered(1))
		}
		own.do("config", "set", "replica-read-only", "yes")
		own.do("config", "set", "repl-diskless-load", "disabled")
		own.do("replicaof", "127.0.0.1", freePort(t)) // whose master is away
		wantNoExchange(t, dial(t, &redis.Options{Addr: own.addr, MaxRetries: -1}), "connect to the master")
	}
}

// Redis asks for the right to a command when the script comes to it. PEXPIRE
// is for what has no grant alone.
func TestAMissingRightRefusesTheLease(t *testing.T) {
	for _, command := range []string{"hget", "hmget", "hexists", "hset", "hincrby", "hdel", "persist", "pexpire", "time", "evalsha"} {
		for name, stored := range map[string]bool{"no grant": false, "a grant": true} {
			if command == "pexpire" && stored {
				continue
			}
			t.Run(command+", "+name, func(t *testing.T) {
				own := startServer(t)
				if stored {
					put(t, newStore(own.client(), ""), theKey, numbered(1))
				}
				own.do("acl", "setuser", "app", "on", "nopass", "~*", "&*", "+@all", "-"+command)
				wantNoExchange(t, dial(t, &redis.Options{Addr: own.addr, Username: "app", Password: "any"}), "ACL")
				switch c := own.client(); {
				case stored:
					wantNumber(t, newStore(c, ""), theKey, 1)
				case command != "hdel":
					eventually(t, func() bool { return c.DBSize(t.Context()).Val() == 0 }, "the hash of the lease gone")
				}
			})
		}
	}
}

// A save replaces what is there: it needs hardly any memory, and its pair has
// no other place.
func TestAServerThatIsFullByNowStoresThePair(t *testing.T) {
	own := startServer(t)
	s := newStore(own.client(), "")
	for _, stored := range []int64{0, 1} {
		own.do("config", "set", "maxmemory", "0")
		err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			own.do("config", "set", "maxmemory", "1")
			return numbered(stored + 1), nil
		})
		if err != nil {
			t.Errorf("Update while the memory runs out = %v", err)
		}
		wantNumber(t, s, theKey, stored+1)
		settle(t, s, theKey)
	}
}
