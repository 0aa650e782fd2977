// Package filestore keeps grants in a directory: the Store of a program that
// runs on one machine, as one process or as many.
//
// A Bitrix24 refresh token works once. Two processes that renew the same
// grant at the same time, or one that is killed between the exchange and the
// save, leave a file with a token that nobody will take any more, and the
// user has to install the application again. So an Update here holds a lock
// on the grant in every process; the new grant is written beside the old
// one, synced and renamed over it, so that a kill or a power cut leaves
// either the old grant or the new one; the room for it is taken and the rename
// tried before the token is exchanged, so that a full disk or a file that
// cannot be replaced is found while the old token is still good; and a new grant that was written and not renamed any more is
// renamed by the next Update, if it is the newer one by [b24oauth.Lineage] or
// there is none.
//
// A grant is a JSON file that a person can read, if it is the file's owner
// (0600). It contains the tokens in plain text; package sealedstore over this
// Store encrypts them.
//
//	grant-example.bitrix24.com.json  the grant of that key
//	grant-example.bitrix24.com.lock  locked while it is updated; never removed
//	grant-example.bitrix24.com.new   the next grant, while it is written
//	grant-example.bitrix24.com.try   for a moment before it is
//
// A link, a pipe or anything else than a file under one of these names is not
// followed. Files that root makes in a directory of somebody else's are given
// to the directory's owner, so that a renewal under sudo does not lock out the
// service.
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
//
// A program that is started while a volume is away cannot know it, and takes the
// mount point for the directory. Have it start after the mount, and leave the
// mount point to root (0555), so that Open fails there.
//
// To delete a grant, call [b24oauth.Config.Delete], which leaves a file that
// says so. Removing a .json file by hand while a program runs deletes nothing:
// a process that has the grant takes the Store for emptied and writes the
// file back.
package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// A Store is a [b24oauth.Store] in a directory. Make one with [Open]; several
// on the same directory, in one process or in many, exclude each other.
//
// The lock does not run out: the context that Update gives to its function
// never ends. A holder that stalls makes the others wait, until their own
// contexts end; a holder that is killed makes nobody wait, unless a save of
// its failed before: then the others wait until 45 s after that Update began.
//
// A grant file that is empty, truncated, larger than 1 MiB, the copy of
// another key's file or otherwise not a grant is an error of Load and Update
// that names the file and quotes nothing of it. The file is left as it is and
// no function is called.
//
// A directory that has gone, or another one under its path, such as the mount
// point of a volume that is not mounted, is an error too and not a Store
// without grants. Once the directory is back, the Store works again.
//
// These errors, and those of a missing permission or a read-only file system,
// wrap [b24oauth.ErrMisconfigured]. A full disk passes.
type Store struct {
	dir     directory
	owner   string // random, so that a mark of this Store's is known again
	exposed string // which directory others can write to; empty: none
	warned  atomic.Bool
}

var _ b24oauth.Lister = (*Store)(nil)

// Open returns a Store in dir. A directory that does not exist is made, for
// its owner alone (0700); one that exists keeps its permissions. It must be
// writable, and stay the same while the Store is in use. There is nothing to
// close.
//
// Who else can write to the directory can replace a grant or take away a lock,
// and who can write to one above it can replace it as a whole. If the modes let
// a group or everybody, or if one of them belongs to another user than root, the
// Logger of the [b24oauth.Config] gets a warning. Open makes no error of it, and
// does not look for it on Windows.
func Open(dir string) (*Store, error) {
	if dir == "" {
		return nil, setup.Wrong(errors.New("b24oauth/filestore: no directory given: pass the one that keeps the grants"))
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: cannot use %s: %w; pass an absolute path", dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, failed("b24oauth/filestore: cannot use %s: %w; pass a directory, or a path where one can be made", dir, err)
	}
	// Two paths to one directory are to share the exclusivity of this process.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, failed("b24oauth/filestore: cannot use %s: %w", dir, err)
	}
	probe, err := os.CreateTemp(abs, "open-*.new")
	if err != nil {
		return nil, failed("b24oauth/filestore: cannot use %s: %w; a new refresh token could not be saved: give this user the right to write, and room", dir, err)
	}
	err = errors.Join(probe.Sync(), probe.Close(), os.Remove(probe.Name()))
	var d directory
	if err == nil {
		d, err = openDirectory(abs)
	}
	if err != nil {
		return nil, failed("b24oauth/filestore: cannot use %s: %w", dir, err)
	}
	return &Store{dir: d, owner: rand.Text(), exposed: exposed(abs, os.Geteuid())}, nil
}

// UseLogger warns, once, of a directory that others can write to. A
// [b24oauth.Config] calls it with its Logger.
func (s *Store) UseLogger(l *slog.Logger) {
	if s.exposed == "" || s.warned.Swap(true) {
		return
	}
	l.Warn("b24oauth/filestore: others can write where the grants are, and so replace a grant or take it away: make the directory this program's own, with chown and chmod go-w",
		slog.String("directory", s.dir.path), slog.String("why", s.exposed))
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
// woken as soon as the one before them ends, other processes poll every 50 ms
// at first and every second later on.
//
// After an error with which the grant that fn returned could not be saved,
// only this Store's next Update of the key goes on, at once, until one saves
// or 45 s after that Update began: others would come with the refresh token
// that is used up.
func (s *Store) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	f, err := s.file(key)
	if err != nil {
		return err
	}
	if err := f.reachable(); err != nil {
		return err
	}
	l, err := takeLock(ctx, f.base+lockSuffix, s.owner)
	if err != nil {
		return err
	}
	defer l.release()

	if f.open, err = f.dir.open(); err != nil {
		return err
	}
	defer f.open.Close()
	given, err := f.read(ctx)
	if err != nil {
		return err
	}
	if given, err = f.recover(ctx, given); err != nil {
		return err
	}
	// Whatever can fail for want of room or permission does so now, while
	// the refresh token in given is still good.
	next, err := f.stage(ctx, given)
	if err != nil {
		return err
	}
	defer next.discard()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("b24oauth/filestore: %w", err)
	}

	g, err := fn(context.WithoutCancel(ctx), given.grant)
	switch {
	case errors.Is(err, b24oauth.ErrDelete):
		err = f.remove(given)
	case err != nil:
		return err
	case g == nil:
		return nil
	default:
		if err = f.save(next, given, g); err != nil && !errors.Is(err, b24oauth.ErrConflict) {
			next.discard() // to have room for the mark
			return errors.Join(err, l.keepLease(s.owner))
		}
	}
	if err == nil || errors.Is(err, b24oauth.ErrConflict) {
		l.settle()
	}
	return err
}

// Keys implements [b24oauth.Lister], in the order of the file names. It reads
// each file, since nothing else tells a deleted grant: ten thousand take about
// a second from a warm cache. A file that looks like a grant and does not tell
// its key is yielded as an error that names it; one that tells its key and is
// otherwise damaged is yielded as that key, and Load says what is wrong.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := s.dir.list()
		if err != nil {
			yield("", err)
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
		return grantFile{}, setup.Wrong(errors.New("b24oauth/filestore: the key is empty: choose one, such as the portal's member_id"))
	}
	return grantFile{key: key, dir: s.dir, base: filepath.Join(s.dir.path, fileName(key))}, nil
}

// keyOf returns the key of the grant file with that name, or "" if it is not
// one, is a tombstone or has gone.
func (s *Store) keyOf(ctx context.Context, name string) (string, error) {
	key, kind := parseFileName(name)
	path := filepath.Join(s.dir.path, name)
	switch kind {
	case notGrant:
		return "", nil
	case misnamed:
		return "", setup.Wrong(fmt.Errorf("b24oauth/filestore: %s is not a grant: no key has that name; give it back the name it had, or move it to another directory", path))
	}
	raw, err := s.dir.read(ctx, name)
	if err == nil && raw == nil {
		return "", nil
	}
	var c *contents
	if err == nil {
		if c, err = decode(raw); err != nil {
			err = &unusable{path, err}
		} else if fileName(c.key)+grantSuffix != name {
			err = &unusable{path, errForeign}
		}
	}
	if err != nil {
		if kind == namedByKey {
			return key, nil
		}
		return "", err
	}
	var g b24oauth.Grant
	if err := g.UnmarshalBinary(c.Grant); err == nil && !g.Deleted.IsZero() {
		return "", nil
	}
	return c.key, nil
}
