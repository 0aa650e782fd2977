// Package redisstore keeps grants in Redis: the Store of a program that runs
// on several machines and has a Redis that is a database and not a cache.
//
// A Bitrix24 refresh token works once. Two processes that renew the same
// grant at the same time, or one that is killed between the exchange and the
// save, leave a token that nobody will take any more, and the user has to
// install the application again. So an Update here holds a lease on the
// grant, taken and given back by scripts and measured by Redis' own clock.
// Each write carries a nonce, and a save succeeds if and only if the nonce is
// still the one that the Update found, whoever holds the lease by then: a
// holder that stalled cannot overwrite a newer pair, and if there is none,
// its own is not lost. No connection is held while the token is exchanged.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	config.Store = redisstore.New(client)
//
// A grant is a hash, b24oauth:{key}, without an expiry:
//
//	grant        the stored form: JSON with the tokens in plain text
//	nonce        random, new with each write
//	version      how often the grant was written; decides nothing
//	member_id    from the grant, to be read by a person, as are the next two
//	domain       the portal's address
//	expiry       when the access token ends
//	updated_at   when the grant was written, by the writer's clock
//	owner        who has the lease; there while an Update runs
//	lease_until  the end of the lease in Unix milliseconds, by Redis' clock
//	inherited    1 if the owner before this one never ended
//
// A hash without the field grant is a lease on a key that has none, or what a
// deletion left; it expires. To remove a grant by hand, DEL its hash. Do not
// write to it.
//
// # Redis as a database
//
// What Redis forgets is lost: the authorization server has given out the
// next refresh token and takes the one before it no more. So the server
// needs:
//
//   - appendonly yes. With appendfsync everysec, the default, a crash of the
//     machine loses the grants of up to one second, and no crash of the Redis
//     process alone loses any; with always it loses none. Snapshots (save)
//     bring back tokens that are minutes old.
//   - maxmemory-policy noeviction. A policy that evicts keys evicts grants. A
//     full Redis that does not evict refuses the lease, before a token is
//     spent.
//   - Redis 6 or later. The user of an ACL needs EVAL, EVALSHA, the commands
//     that the scripts call, and, to be woken instead of polling, SUBSCRIBE
//     and PUBLISH on the channels named like the hashes; for Keys also SCAN.
//
// Replication is asynchronous, in Sentinel and Cluster too: a failover can go
// back to the pair before the last. That heals while a process that knows
// the newer pair lives, since it saves that over the older one; otherwise the
// grant is lost. The setting min-replicas-to-write makes it rarer.
//
// The Store logs a warning once if the server says that it does not write an
// append-only file, or that it evicts.
//
// MONITOR, the slow log, and tracing that records statements (redisotel does
// unless told otherwise) show what the scripts are given, and so the tokens:
// package sealedstore around this Store encrypts them.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/redis/go-redis/v9"
)

// A Store is a [b24oauth.Store] in Redis. Make one with [New]; all that are
// on the same database with the same Prefix exclude each other. The fields
// are not changed after the first use.
type Store struct {
	// Prefix begins the names of all hashes and channels. Empty: b24oauth:
	// is taken. Stores with different prefixes share nothing.
	Prefix string

	// Lease is how long an Update is promised exclusivity, and how long the
	// others wait if its process is killed. It is not extended while the
	// Update runs: it has to be longer than an exchange and its saving may
	// take, which is [b24oauth.Config.RefreshTimeout] and 10 s, and shorter
	// than [b24oauth.Config.EarlyExpiry], so that a killed holder costs
	// nobody a working token. 0: 30 s. All Stores on a database should have
	// the same.
	Lease time.Duration

	// Logger is told when a lease could not be given back, and once if Redis
	// is set up to forget. Nil: silent.
	Logger *slog.Logger

	client  redis.UniversalClient
	waiters waiters
	asking  chan struct{} // one element for each who is asking for a lease
	checked atomic.Bool   // the server's settings have been looked at

	mu   sync.Mutex
	kept map[string]string // owners of leases kept after a failed save, by name; guarded by mu
}

var _ b24oauth.Store = (*Store)(nil)

const (
	defaultLease = 30 * time.Second

	// saveBudget bounds a save, and once more the giving back of the lease:
	// a busy Redis is to be waited for there too, or the others wait longer.
	saveBudget = 10 * time.Second

	// maxAsking is how many ask for a lease at a time: fewer than the
	// smallest pool that go-redis has by itself, so that among thousands who
	// wait, those who save do not wait for a connection too.
	maxAsking = 8
)

// New returns a Store on the client's database. The client is any of
// go-redis: of one server, of a Sentinel group or of a cluster, but not a
// [redis.Ring], which moves keys while a server is down. Its retries are
// welcome. It stays the caller's, who closes it after the last use of the
// Store.
func New(c redis.UniversalClient) *Store {
	return &Store{client: c, waiters: waiters{client: c}, asking: make(chan struct{}, maxAsking)}
}

// Load implements [b24oauth.Store]. It reads from the master, also through a
// client that prefers replicas.
func (s *Store) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	name, err := s.name(key)
	if err != nil {
		return nil, err
	}
	form, err := bounded(ctx, func() (string, error) { return s.run(ctx, loadScript, name).Text() })
	if errors.Is(err, redis.Nil) {
		err = fmt.Errorf("%w under %q", b24oauth.ErrNoGrant, key)
	} else if err != nil {
		err = failed("the grant cannot be read", err)
	}
	if err != nil {
		return nil, err
	}
	s.checkServer(ctx)
	return s.decode(name, form)
}

// Update implements [b24oauth.Store]. The others are woken when it ends, and
// look by themselves every 50 ms at first and every second later on.
//
// If saving what fn returned fails, the lease is kept, because this process
// alone has the new pair: the next Update of the key through this Store goes
// on with it, those through any other wait until it runs out.
func (s *Store) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	name, err := s.name(key)
	if err != nil {
		return err
	}
	l, err := s.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer s.end(ctx, l)
	given, err := s.given(l)
	if err != nil {
		return err
	}

	fnCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), l.until)
	defer cancel()
	g, err := fn(fnCtx, given)
	remove := errors.Is(err, b24oauth.ErrDelete)
	switch {
	case remove:
		g = nil
	case err != nil && l.inherited:
		return fmt.Errorf("%w; an earlier Update of %s never ended: %w", err, name, b24oauth.ErrConflict)
	case err != nil:
		return err
	case g == nil:
		return nil
	}
	l.unsaved = true
	err = s.save(ctx, l, g)
	l.unsaved = err != nil && !errors.Is(err, b24oauth.ErrConflict)
	return err
}

// given returns the grant that came with the lease, nil if there is none.
func (s *Store) given(l *lease) (*b24oauth.Grant, error) {
	if !l.found {
		return nil, nil
	}
	return s.decode(l.name, l.form)
}

func (s *Store) decode(name, form string) (*b24oauth.Grant, error) {
	g := new(b24oauth.Grant)
	if err := g.UnmarshalBinary([]byte(form)); err != nil {
		return nil, fmt.Errorf("b24oauth/redisstore: %s is not usable: %w; it was left as it is: restore it from a backup, or remove it and install the application again", name, err)
	}
	return g, nil
}
