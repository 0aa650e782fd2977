// Package filestore keeps grants in a directory: the Store of a program that
// runs on one machine, as one process or as many.
//
// A Bitrix24 refresh token works once. Two processes that renew the same
// grant at the same time, or one that is killed between the exchange and the
// save, leave a file with a token that nobody will take any more, and the
// user has to install the application again. So an Update here holds a lock
// on the grant in every process; the new grant is written beside the old
// one, synced and renamed over it, so that a kill or a power cut leaves
// either the old grant or the new one; and the room for it is taken before
// the token is exchanged, so that a full disk is found while the old token
// is still good. An Update that dies leaves a mark, by which the next one
// knows that an invalid token may be that Update's doing.
//
// A grant is a JSON file that a person can read, if it is the file's owner
// (0600). It contains the tokens in plain text; package sealedstore over this
// Store encrypts them.
//
//	grant-example.bitrix24.com.json  the grant of that key
//	grant-example.bitrix24.com.lock  locked while it is updated; never removed
//	grant-example.bitrix24.com.new   the next grant, while it is written
//
// # Caveats
//
// One directory is for one machine. The lock is flock(2), or LockFileEx on
// Windows. Network file systems keep it badly: NFS before Linux 2.6.12 and
// NFS mounted with local_lock or nolock exclude on each client only, and
// some FUSE and SMB mounts not at all. Two containers that share a volume are
// one machine if they share its kernel, and not if the volume is a network
// file system. A folder that a sync service or a backup writes to is not a
// place for grants: it brings back an old refresh token, or a copy under
// another name. For several machines use the packages sqlstore or redisstore.
//
// Removing a lock file while a program runs lets two Updates run at once.
// To remove a grant by hand, remove its .json file.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/b24go/b24oauth"
)

// A Store is a [b24oauth.Store] in a directory. Make one with [Open]; several
// on the same directory, in one process or in many, exclude each other.
//
// The lock does not run out: the context that Update gives to its function
// never ends. A holder that stalls makes the others wait, until their own
// contexts end; a holder that is killed makes nobody wait.
//
// A grant file that is empty, truncated, larger than 1 MiB, the copy of
// another key's file or otherwise not a grant is an error of Load and Update
// that names the file and quotes nothing of it. The file is left as it is and
// no function is called.
type Store struct {
	dir string // absolute, without symbolic links
}

var _ b24oauth.Store = (*Store)(nil)

// Open returns a Store in dir. A directory that does not exist is made, for
// its owner alone (0700); one that exists keeps its permissions. It must be
// writable, and stay where it is while the Store is in use. There is nothing
// to close.
func Open(dir string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("b24oauth/filestore: no directory given: pass the one that keeps the grants")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: cannot use %s: %w; pass an absolute path", dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: cannot use %s: %w; pass a directory, or a path where one can be made", dir, err)
	}
	// Two paths to one directory are to share the turns of this process.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: cannot use %s: %w", dir, err)
	}
	probe, err := os.CreateTemp(abs, "open-*.new")
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: cannot use %s: %w; a new refresh token could not be saved: give this user the right to write, and room", dir, err)
	}
	probe.Close()
	os.Remove(probe.Name())
	return &Store{dir: abs}, nil
}

// Load implements [b24oauth.Store]. It reads the file and takes no lock.
func (s *Store) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	f, err := s.file(key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: %w", err)
	}
	v, err := f.read(ctx)
	switch {
	case err != nil:
		return nil, err
	case v.grant == nil:
		return nil, fmt.Errorf("%w under %q", b24oauth.ErrNoGrant, key)
	}
	return v.grant, nil
}

// Update implements [b24oauth.Store]. Waiting goroutines of one process are
// woken as soon as it is their turn, other processes look every 50 ms at
// first and every second later on.
//
// An error with which the grant that fn returned could not be saved leaves
// the mark of an Update that never ended: the caller is alive and will try
// again, but another process may come first, with the refresh token that is
// used up.
func (s *Store) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	f, err := s.file(key)
	if err != nil {
		return err
	}
	l, err := takeLock(ctx, f.base+lockSuffix)
	if err != nil {
		return err
	}
	defer l.release()

	given, err := f.read(ctx)
	if err != nil {
		return err
	}
	// Whatever can fail for want of room or permission does so now, while
	// the refresh token in given is still good.
	next, err := stage(f.base+newSuffix, len(given.raw)+growth)
	if err != nil {
		return err
	}
	defer next.discard()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("b24oauth/filestore: %w", err)
	}
	if err := l.mark(); err != nil {
		return err
	}

	g, err := fn(context.WithoutCancel(ctx), given.grant)
	remove := errors.Is(err, b24oauth.ErrDelete)
	switch {
	case remove:
	case err != nil && l.inherited:
		return fmt.Errorf("%w; an earlier Update of %s never ended: %w", err, f.path(), b24oauth.ErrConflict)
	case err != nil:
		return err
	case g == nil:
		return nil
	}

	if remove {
		err = f.remove(given)
	} else {
		err = f.save(next, given, g)
	}
	l.settled = err == nil || errors.Is(err, b24oauth.ErrConflict)
	return err
}

// Keys returns the keys of all grants in the directory, sorted by file name.
// Each iteration reads the directory anew. A file that looks like a grant and
// does not tell its key is yielded as an error that names it, and the
// iteration goes on; it ends with an error when ctx does. The grants
// themselves are not read: Load tells whether one is whole.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			yield("", fmt.Errorf("b24oauth/filestore: %w", err))
			return
		}
		// A file that is replaced while the directory is read can be
		// listed as the old one and as the new one.
		entries = slices.CompactFunc(entries, func(a, b os.DirEntry) bool { return a.Name() == b.Name() })
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield("", fmt.Errorf("b24oauth/filestore: %w", err))
				return
			}
			key, err := s.keyOf(ctx, e.Name())
			if key == "" && err == nil {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// file returns where the grant of key is kept.
func (s *Store) file(key string) (grantFile, error) {
	if key == "" {
		return grantFile{}, errors.New("b24oauth/filestore: the key is empty: choose one, such as the portal's member_id")
	}
	return grantFile{key: key, base: filepath.Join(s.dir, fileName(key))}, nil
}

// keyOf returns the key of the grant file with that name, or "" if it is not
// one or has gone.
func (s *Store) keyOf(ctx context.Context, name string) (string, error) {
	key, kind := parseFileName(name)
	path := filepath.Join(s.dir, name)
	switch kind {
	case notGrant:
		return "", nil
	case misnamed:
		return "", fmt.Errorf("b24oauth/filestore: %s is not a grant: no key has that name; give it back the name it had, or remove it", path)
	case namedByKey:
		return key, nil
	}
	raw, err := readFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	c, err := decode(raw)
	if err != nil {
		return "", unusable(path, err)
	}
	if fileName(c.key)+grantSuffix != name {
		return "", unusable(path, errForeign)
	}
	return c.key, nil
}
