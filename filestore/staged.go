package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// staged is the file that will be the next grant. Only who holds the lock of
// its key has one, so a file of that name that is already there was left by
// an Update that never ended.
type staged struct {
	file *os.File
	done bool // it has become the grant
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
	if _, err := file.Write(make([]byte, room)); err != nil {
		s.discard()
		return nil, fmt.Errorf("b24oauth/filestore: a new grant could not be saved: %w", err)
	}
	return s, nil
}

// write makes raw the contents of the file, durably, and closes it.
func (s *staged) write(raw []byte) error {
	_, err := s.file.WriteAt(raw, 0)
	if err == nil {
		err = s.file.Truncate(int64(len(raw)))
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

func (s *staged) rename(ctx context.Context, path string) error {
	err := retry(ctx, saveBudget, func() error { return os.Rename(s.file.Name(), path) })
	s.done = err == nil
	return err
}

// discard removes the file, unless it has become the grant.
func (s *staged) discard() {
	if s.done {
		return
	}
	s.file.Close()
	os.Remove(s.file.Name())
}
