package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// renameFile is replaced by tests: nothing else makes a rename fail, or stops
// a process just before it, on every system.
var renameFile = os.Rename

// staged is the file that will be the next grant. Only who holds the lock of
// its key has one, so a file of that name that is already there was left by
// an Update that was killed, or that could not rename it.
type staged struct {
	file *os.File
	info os.FileInfo
	kept bool // discard leaves it: it has become the grant, or is to
}

// recover finishes what the Update before could not: its file may have the
// only copy of a pair whose predecessor is spent. It returns what is stored
// then. A file that is not whole, or whose grant is not the newer one by
// lineage, is left for stage to remove.
func (f grantFile) recover(ctx context.Context, given stored) (stored, error) {
	path := f.base + newSuffix
	raw, err := readFile(ctx, path)
	var left stored
	if err == nil {
		left, err = f.parse(path, raw)
	}
	var notWhole *unusable
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &notWhole):
		return given, nil
	case err != nil:
		return stored{}, err
	case given.grant != nil && !given.grant.OlderThan(left.grant):
		return given, nil
	}
	if err := syncFile(path); err != nil {
		return stored{}, failed("b24oauth/filestore: a grant that an earlier Update left cannot be stored: %w; check the owner and the permissions of the file", err)
	}
	err = f.change(func() error {
		return retry(ctx, saveBudget, func() error { return renameFile(path, f.path()) })
	})
	return left, err
}

func syncFile(path string) error {
	file, err := openOwn(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// stage makes the file and takes the room for the next grant.
func (f grantFile) stage(ctx context.Context, given stored) (*staged, error) {
	path, try := f.base+newSuffix, f.base+trySuffix
	for _, leftover := range []string{path, try} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failed("b24oauth/filestore: a leftover is in the way: %w", err)
		}
	}
	err := f.rehearse(ctx, given, try, path)
	var file *os.File
	if err == nil {
		file, err = openOwn(path, os.O_WRONLY)
	}
	if err != nil {
		os.Remove(try)
		os.Remove(path)
		return nil, failed("b24oauth/filestore: a new grant could not be saved: %w", err)
	}
	s := &staged{file: file}
	if s.info, err = file.Stat(); err == nil {
		_, err = file.Write(make([]byte, len(given.raw)+growth))
	}
	if err != nil {
		s.discard()
		return nil, failed("b24oauth/filestore: a new grant could not be saved: %w", err)
	}
	return s, nil
}

// rehearse leaves an empty file at path, by way of the rename that is to make
// it the grant: a grant file that is a mount point, immutable or somebody
// else's in a sticky directory would refuse that only when its refresh token is
// spent. What is renamed over is a further link to the grant file, which costs
// no write to the disk.
func (f grantFile) rehearse(ctx context.Context, given stored, try, path string) error {
	if given.grant != nil && os.Link(f.path(), path) != nil {
		// A file system without links, or one of the reasons above.
		if err := f.replaceByItself(ctx, given, path); err != nil {
			return err
		}
	}
	file, err := createOwn(try, os.O_WRONLY)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return retry(ctx, readBudget, func() error { return os.Rename(try, path) })
}

// replaceByItself replaces the grant file by a copy. The copy is synced: a
// power cut could leave the name with nothing in it.
func (f grantFile) replaceByItself(ctx context.Context, given stored, path string) error {
	file, err := createOwn(path, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = file.Write(given.raw)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return retry(ctx, readBudget, func() error { return os.Rename(path, f.path()) })
}

// write makes raw the contents of the file, durably, and closes it.
func (s *staged) write(raw []byte) error {
	// Cut to its length first, so that a process that is killed at any time
	// leaves either no grant or a whole one.
	err := s.file.Truncate(int64(len(raw)))
	if err == nil {
		_, err = s.file.WriteAt(raw, 0)
	}
	if err == nil {
		// Before the rename: else a power cut can leave the new name
		// with nothing in it.
		err = s.file.Sync()
	}
	if err := errors.Join(err, s.file.Close()); err != nil {
		return failed("b24oauth/filestore: the new grant was not saved: %w", err)
	}
	return nil
}

// rename makes the written file the grant. If that fails, the file is kept:
// the next Update recovers it, of whatever process.
func (s *staged) rename(ctx context.Context, path string) error {
	s.kept = true
	return retry(ctx, saveBudget, func() error {
		// Whoever removed the lock file, or put another directory under the
		// path, let another Update begin, whose file is not finished.
		now, err := os.Lstat(s.file.Name())
		if err != nil {
			return err
		}
		if !os.SameFile(s.info, now) {
			return fmt.Errorf("%s is another Update's: was the lock file removed, or the directory replaced?", s.file.Name())
		}
		return renameFile(s.file.Name(), path)
	})
}

// discard removes the file, unless it has become the grant or is to.
func (s *staged) discard() {
	if s.kept {
		return
	}
	s.file.Close()
	if now, err := os.Lstat(s.file.Name()); err == nil && os.SameFile(s.info, now) {
		os.Remove(s.file.Name())
	}
}
