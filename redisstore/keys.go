package redisstore

import (
	"context"
	"iter"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

const perPage = 1000

// Keys implements [b24oauth.Lister]. Each iteration scans the database, on a
// cluster that of each master; a grant that is stored or deleted meanwhile, or
// that moves to another master, may be missed. It remembers the keys that it
// has yielded. It ends with the first error of Redis, or with that of ctx.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.scan(ctx, func(key string) bool { return yield(key, nil) })
		if err != nil {
			yield("", s.failed("the grants cannot be listed", err))
		}
	}
}

// scan calls found with each key until that returns false.
func (s *Store) scan(ctx context.Context, found func(key string) bool) error {
	servers, err := bounded(ctx, func() ([]redis.Cmdable, error) { return s.servers(ctx) })
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, server := range servers {
		p := page{}
		for more := true; more; more = p.next != 0 {
			from := p.next
			if p, err = bounded(ctx, func() (page, error) { return s.page(ctx, server, from) }); err != nil {
				return err
			}
			for _, key := range p.keys {
				if seen[key] {
					continue
				}
				seen[key] = true
				if !found(key) {
					return nil
				}
			}
		}
	}
	return nil
}

// page is what one step of a scan brought, and where the next one begins: 0
// after the last.
type page struct {
	keys []string
	next uint64
}

func (s *Store) page(ctx context.Context, server redis.Cmdable, from uint64) (page, error) {
	names, next, err := server.ScanType(ctx, from, s.pattern(), perPage, "hash").Result()
	if err != nil {
		return page{}, err
	}
	keys, err := s.withGrant(ctx, names)
	return page{keys, next}, err
}

// withGrant returns the keys of those hashes that hold a grant which is not
// deleted. It does not read the grants: their fences tell, and that there is
// one at all, the version, since a purge of earlier days left its fence. It
// asks through the client and not the server that was scanned: a name may
// have moved.
func (s *Store) withGrant(ctx context.Context, names []string) ([]string, error) {
	var keys []string
	var replies []*redis.SliceCmd
	pipe := s.client.Pipeline()
	for _, name := range names {
		if key, ok := s.key(name); ok {
			keys = append(keys, key)
			replies = append(replies, pipe.HMGet(ctx, name, "nonce", "version"))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	kept := keys[:0]
	for i, key := range keys {
		fence, version := replies[i].Val()[0], replies[i].Val()[1]
		if f, ok := fence.(string); ok && version != nil && !strings.HasPrefix(f, "deleted-") {
			kept = append(kept, key)
		}
	}
	return kept, nil
}

// servers returns the masters of a cluster, or the one server.
func (s *Store) servers(ctx context.Context) ([]redis.Cmdable, error) {
	cluster, ok := s.client.(interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	})
	if !ok {
		return []redis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex
	var masters []redis.Cmdable
	err := cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, master)
		return nil
	})
	return masters, err
}
