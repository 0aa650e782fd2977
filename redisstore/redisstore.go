// Package redisstore keeps grants in Redis: the Store of a program that runs
// on several machines and has a Redis that is a database and not a cache.
//
// A Bitrix24 refresh token works once. Two processes that renew the same
// grant at the same time, or one that is killed between the exchange and the
// save, leave a token that nobody will take any more, and the user has to
// install the application again. So an Update here holds a lease on the
// grant, taken and given back by scripts and measured by Redis' own clock.
// Beside each grant stands its fence, and a save succeeds if and only if that
// is still the one that the Update found, whoever holds the lease by then: a
// holder that stalled cannot overwrite a newer pair, and if there is none,
// its own is not lost. No connection is held while the token is exchanged.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	config.Store = redisstore.New(client)
//
// A grant is a hash, b24oauth:{key}, without an expiry, and so is what
// remains of a deleted one:
//
//	grant        the stored form: JSON with the tokens in plain text
//	nonce        the fence, [b24oauth.Grant.Fence]; "deleted-…" if the grant is
//	version      how often the grant was written; decides nothing
//	member_id    from the grant, to be read by a person, as are the next two
//	domain       the portal's address
//	expiry       when the access token ends
//	updated_at   when the grant was written, by the writer's clock
//	writes       random names of the last four writes: none is done twice
//	owner        who has the lease; there while an Update runs
//	lease_until  the end of the lease in Unix milliseconds, by Redis' clock
//
// The fence stands in a field named nonce because a random number stood there
// once, new with each write. Such a hash is good: its nonce is compared as it
// is, until the next write replaces it.
//
// A hash without the field grant is a lease on a key that has none, or what a
// purge ([b24oauth.ErrDelete]) left; it expires. Do not write to a hash, and
// do not DEL one to delete its grant: a running process that has the pair
// takes a missing hash for a Redis that was emptied, and writes it back. Call
// Config.Delete.
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
//     spent; a pair that is fetched by then is stored all the same.
//   - Redis 6 or later. The user of an ACL needs EVAL, EVALSHA, what the
//     scripts call (HGET, HMGET, HEXISTS, HSET, HINCRBY, HDEL, PERSIST, PEXPIRE,
//     TIME) and, to be woken instead of polling, SUBSCRIBE and PUBLISH on the
//     channels named like the hashes; for Keys also SCAN. A right that a save
//     needs is tried with the lease.
//
// Replication is asynchronous, in Sentinel and Cluster too: a failover can go
// back to the pair before the last. That heals while a process that knows
// the newer pair lives, since it saves that over the older one; otherwise the
// grant is lost. The setting min-replicas-to-write makes it rarer.
//
// The Store logs a warning once, to the Logger of the [b24oauth.Config] if it has
// none of its own, if the server says that it does not write an append-only file,
// or that it evicts.
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
	"github.com/b24go/b24oauth/internal/setup"
	"github.com/redis/go-redis/v9"
)

// A Store is a [b24oauth.Store] in Redis. Make one with [New]; all that are
// on the same database with the same Prefix exclude each other. The fields
// are not changed after the first use.
//
// A user, a password or a right that Redis does not accept, a command that it
// does not know, a DB that it does not have, something else under a grant's name
// and a damaged grant stay until somebody acts: their errors wrap
// [b24oauth.ErrMisconfigured]. Any other, such as that of a replica, passes.
type Store struct {
	// Prefix begins the names of all hashes and channels. Empty: b24oauth:
	// is taken. Stores with different prefixes share nothing.
	Prefix string

	// Lease is how long an Update is promised exclusivity, and how long the
	// others wait if its process is killed. It is not extended while the
	// Update runs: it has to be at least 2 × [b24oauth.Config.RefreshTimeout]
	// and 10 s, the time of an exchange and its saving. What it has beyond
	// that is grace for a late answer. 0: 45 s. All Stores on a database
	// should have the same.
	Lease time.Duration

	// Logger gets a line when a lease could not be given back, and once if Redis
	// is set up to forget. Nil: that of the [b24oauth.Config].
	Logger *slog.Logger

	client  redis.UniversalClient
	waiters waiters
	asking  chan struct{}               // one element for each who is asking for a lease
	clock   atomic.Pointer[reading]     // of Redis' clock, by the last answer of take
	checked atomic.Bool                 // the server's settings have been looked at
	used    atomic.Pointer[slog.Logger] // the Config's Logger; nil if there is none

	mu        sync.Mutex               // guards the following
	kept      map[string]string        // owners of leases kept after a failed save, by name
	releasing map[string]chan struct{} // closed when the lease has been given back, by name
}

var _ b24oauth.Lister = (*Store)(nil)

const (
	defaultLease = 45 * time.Second

	// saveBudget bounds a save.
	saveBudget = 10 * time.Second

	// releaseBudget bounds the giving back of a lease: long enough for a
	// client that repeats an attempt of 3 s once, since the others wait for
	// what is left of the lease if it is not given back.
	releaseBudget = 5 * time.Second

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
		err = s.failed("the grant cannot be read", err)
	}
	if err != nil {
		return nil, err
	}
	s.checkServer(ctx)
	return s.decode(name, form)
}

// Update implements [b24oauth.Store]. It returns when the grant is saved and
// gives the lease back afterwards, within 5 s: if the program ends or closes
// the client in that moment, the next Update of the key waits until the lease
// has run out. The others are woken when it is given back, and look by
// themselves every 50 ms at first and every second later on.
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
	switch {
	case errors.Is(err, b24oauth.ErrDelete):
		g = nil
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
		return nil, setup.Wrong(fmt.Errorf("b24oauth/redisstore: %s is not usable: %w; it was left as it is, in case it is whole: if a newer version of the program wrote it, update this one; else restore it from a backup, or RENAME it, to be kept under another name, and install the application again", name, err))
	}
	return g, nil
}
