package redisstore_test

import (
	"context"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/storetest"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

func flush(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() }

func TestStoreOnACluster(t *testing.T) {
	c := startCluster(t)
	storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
		if err := c.ForEachMaster(t.Context(), flush); err != nil {
			t.Fatal(err)
		}
		return func() b24oauth.Store { return shortLeaser{newStore(c, ""), c} }
	})
}

func TestEachScriptKeepsToOneSlotAndWaitersHearOfAll(t *testing.T) {
	c := startCluster(t)
	s := newStore(c, "")
	want := make(map[string]bool)
	for _, key := range []string{"a", "b", "{", "}", "{}", "{a}b", "a{}b", "\xff", " ", "Портал", "*"} {
		put(t, s, key, numbered(1))
		want[key] = true
	}
	got := make(map[string]bool)
	for key, err := range s.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[key] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Keys of a cluster (-want +got):\n%s", diff)
	}
	wantWoken(t, s, newStore(c, ""))
}
