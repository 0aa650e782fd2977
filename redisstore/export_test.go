package redisstore

import (
	"time"
)

// Digests by which a test recognises a script on the wire.
var (
	TakeDigest    = takeScript.Hash()
	SaveDigest    = saveScript.Hash()
	ReleaseDigest = releaseScript.Hash()
)

// Name is the name of the hash that keeps the grant of key.
func (s *Store) Name(key string) (string, error) { return s.name(key) }

// Key undoes Name.
func (s *Store) Key(name string) (string, bool) { return s.key(name) }

// Join waits for the lease on the hash of that name to be given back.
func (s *Store) Join(name string) (given <-chan struct{}, leave func()) { return s.waiters.join(name) }

// Asking is how many requests for a lease have not been answered.
func (s *Store) Asking() int { return len(s.asking) }

// SetClock makes the Store believe that Redis' clock shows t now.
func (s *Store) SetClock(t time.Time) {
	s.clock.Store(&reading{redis: t.UnixMilli(), here: time.Now()})
}

// Listening tells whether a connection is kept for those who wait.
func (s *Store) Listening() bool {
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	return s.waiters.changed != nil
}
