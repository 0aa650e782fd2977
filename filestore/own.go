package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

var (
	errNotRegular = errors.New("it is not a regular file")
	errReplaced   = errors.New("it was replaced while it was opened")
	errLinked     = errors.New("it has another name: what is written to it would be written to a file of somebody else's")
)

// openOwn opens the file of that name and no other one: through a link we
// would read or write somebody else's, and a pipe would make us wait.
func openOwn(path string, flag int) (*os.File, error) {
	// Looked at before it is opened, because opening a device can do things.
	if err := regular(path, nil); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, flag|ownOnly, 0)
	if err != nil {
		return nil, err
	}
	if err := regular(path, file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// regular returns an error if there is no regular file under the name, or not
// the one that was opened.
func regular(path string, opened *os.File) error {
	// The handle is asked first: on Windows what os.Lstat returns looks for
	// the file's identity only when it is compared.
	var is os.FileInfo
	if opened != nil {
		var err error
		if is, err = opened.Stat(); err != nil {
			return err
		}
	}
	named, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !named.Mode().IsRegular():
		return &unusable{path, errNotRegular}
	case opened != nil && !os.SameFile(is, named):
		return fmt.Errorf("%s: %w", path, errReplaced)
	}
	return nil
}

// createOwn makes a file, for the owner of the directory, where there is
// nothing, not even a link.
func createOwn(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := giveAway(file, filepath.Dir(path)); err != nil {
		file.Close()
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(path))
	}
	return file, nil
}

// openLock opens a lock file, which is made if there is none. One with another
// name is refused: a mark is written to it.
func openLock(path string) (*os.File, error) {
	file, err := openOwn(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = createOwn(path, os.O_RDWR); errors.Is(err, fs.ErrExist) {
			file, err = openOwn(path, os.O_RDWR) // another process has made it
		}
	}
	if err != nil {
		return nil, err
	}
	n, err := links(file)
	if err == nil && n > 1 {
		err = fmt.Errorf("%s: %w", path, errLinked)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
