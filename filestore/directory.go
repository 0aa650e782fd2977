package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/b24go/b24oauth/internal/setup"
)

// directory is a directory that is not taken for empty while another one is
// under its path: a mount point without its volume has no grant in it, and
// whoever found none there would install the application anew over those on
// the volume.
type directory struct {
	path string // absolute, without symbolic links
	info os.FileInfo
}

// openDirectory finds out whether the directory can be synced at all, which is
// too late after an exchange.
func openDirectory(path string) (directory, error) {
	file, err := os.Open(path)
	if err != nil {
		return directory{}, err
	}
	defer file.Close()
	// Asked of the open file: on Windows what os.Stat returns looks for the
	// file's identity only when it is compared.
	info, err := file.Stat()
	if err != nil {
		return directory{}, err
	}
	return directory{path: path, info: info}, syncDir(file)
}

// same returns an error if the path leads to no directory or to another one.
func (d directory) same() error {
	now, err := os.Stat(d.path)
	if err != nil {
		return d.unreachable(err)
	}
	return d.is(now)
}

func (d directory) unreachable(err error) error {
	err = failed("b24oauth/filestore: the directory cannot be reached: %w; mount its volume, or bring it back", err)
	if errors.Is(err, fs.ErrNotExist) {
		return setup.Wrong(err)
	}
	return err
}

func (d directory) is(now os.FileInfo) error {
	if !os.SameFile(d.info, now) {
		return setup.Wrong(fmt.Errorf("b24oauth/filestore: %s is not the directory that was opened: its volume seems to be unmounted, or it was replaced; mount the volume, or bring the directory back; if it was replaced on purpose, start the program again", d.path))
	}
	return nil
}

// read returns what is in the file of that name, nil if the directory has none.
func (d directory) read(ctx context.Context, name string) ([]byte, error) {
	for {
		raw, err := readFile(ctx, filepath.Join(d.path, name))
		if !errors.Is(err, fs.ErrNotExist) {
			// Another directory under the path can have a grant of the key too,
			// such as one that an earlier start without the volume left there.
			if other := d.same(); other != nil {
				return nil, other
			}
			return raw, err
		}
		// It may have come meanwhile, with its volume.
		there, err := d.has(name)
		if err != nil || !there {
			return nil, err
		}
	}
}

// has tells whether the directory has an entry of that name. It asks the
// directory that it has compared: by its path, what is missing from a mount
// point could be missing no more once the volume is back.
func (d directory) has(name string) (bool, error) {
	root, err := d.root()
	if err != nil {
		return false, err
	}
	defer root.Close()
	_, err = root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, failed("b24oauth/filestore: the grant cannot be looked for: %w", err)
	}
	return true, nil
}

// list returns what is in the directory, by name.
func (d directory) list() ([]os.DirEntry, error) {
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, failed("b24oauth/filestore: the grants cannot be listed: %w; check the owner and the permissions of the directory", err)
	}
	return entries, nil
}

// open opens the directory to be synced, or returns an error if another one is
// under its path.
func (d directory) open() (*os.File, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, d.unreachable(err)
	}
	now, err := f.Stat()
	if err == nil {
		err = d.is(now)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// root opens the directory, or returns an error if another one is under its
// path.
func (d directory) root() (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		if other := d.same(); other != nil { // what is there, os.OpenRoot does not always say
			return nil, other
		}
		return nil, d.unreachable(err)
	}
	now, err := root.Stat(".")
	if err == nil {
		err = d.is(now)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}
