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
		return stored{}, fmt.Errorf("b24oauth/filestore: a grant that an earlier Update left cannot be stored: %w; check the owner and the permissions of the file", err)
	}
	err = change(f.path(), func() error {
		return retry(ctx, saveBudget, func() error { return renameFile(path, f.path()) })
	})
	return left, err
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// stage makes the file and takes room bytes for it.
func stage(path string, room int) (*staged, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("b24oauth/filestore: a leftover is in the way: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: a new grant could not be saved: %w", err)
	}
	s := &staged{file: file}
	if s.info, err = file.Stat(); err == nil {
		_, err = file.Write(make([]byte, room))
	}
	if err != nil {
		s.discard()
		return nil, fmt.Errorf("b24oauth/filestore: a new grant could not be saved: %w", err)
	}
	return s, nil
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
		return fmt.Errorf("b24oauth/filestore: the new grant was not saved: %w", err)
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
