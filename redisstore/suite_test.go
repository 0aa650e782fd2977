package redisstore_test

import (
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/b24go/b24oauth/storetest"
	"github.com/redis/go-redis/v9"
)

// shortLeaser is a Store whose leases the suite can shorten.
type shortLeaser struct {
	*redisstore.Store
	client redis.UniversalClient
}

func (s shortLeaser) ShortLease(d time.Duration) b24oauth.Store {
	short := newStore(s.client, s.Prefix)
	short.Lease = d
	return short
}

func TestStore(t *testing.T) {
	url := testURL(t)
	storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
		prefix := newPrefix(t, connect(t))
		return func() b24oauth.Store {
			o, err := redis.ParseURL(url)
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, o)
			return shortLeaser{newStore(c, prefix), c}
		}
	})
}
