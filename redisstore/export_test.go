package redisstore

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

// Listening tells whether a connection is kept for those who wait.
func (s *Store) Listening() bool {
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	return s.waiters.changed != nil
}
