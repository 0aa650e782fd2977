package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/b24go/b24oauth"
)

const (
	// growth is how much longer than the grant before it a new grant can be
	// without needing room that was not taken beforehand.
	growth = 4096

	readBudget = 2 * time.Second
	saveBudget = 10 * time.Second
)

// grantFile is where the grant of one key is kept.
type grantFile struct {
	key  string
	dir  directory
	base string // path without a suffix

	// open is the directory's handle during an Update, which is to sync it
	// even when the process has no handle left.
	open *os.File
}

func (f grantFile) path() string { return f.base + grantSuffix }

// stored is what a grant file holds; the zero value if there is none.
type stored struct {
	grant *b24oauth.Grant
	fence string // the grant's as it was read: fn may write into the grant
	raw   []byte
}

// reachable returns an error if there is no grant because another directory
// is under the path: no lock file is to be left in that one.
func (f grantFile) reachable() error {
	if _, err := os.Lstat(f.path()); !errors.Is(err, fs.ErrNotExist) {
		return nil // read says what else there may be
	}
	return f.dir.same()
}

// read returns the stored grant, or the zero value if there is none in the
// right directory.
func (f grantFile) read(ctx context.Context) (stored, error) {
	raw, err := f.dir.read(ctx, filepath.Base(f.path()))
	if err != nil || raw == nil {
		return stored{}, err
	}
	return f.parse(f.path(), raw)
}

// parse returns the grant that was read from path, which may be the staged
// file.
func (f grantFile) parse(path string, raw []byte) (stored, error) {
	c, err := decode(raw)
	if err != nil {
		return stored{}, &unusable{path, err}
	}
	if c.key != f.key {
		return stored{}, &unusable{path, errForeign}
	}
	g := new(b24oauth.Grant)
	if err := g.UnmarshalBinary(c.Grant); err != nil {
		return stored{}, &unusable{path, err}
	}
	return stored{grant: g, fence: g.Fence(), raw: raw}, nil
}

// readFile returns what is in the file. Its error names the file and wraps
// fs.ErrNotExist if there is none.
func readFile(ctx context.Context, path string) (raw []byte, err error) {
	err = retry(ctx, readBudget, func() error {
		raw, err = readOnce(path)
		return err
	})
	return raw, err
}

func readOnce(path string) ([]byte, error) {
	file, err := openOwn(path, os.O_RDONLY)
	var other *unusable
	switch {
	case errors.As(err, &other):
		return nil, err
	case err != nil:
		return nil, failed("b24oauth/filestore: the grant cannot be read: %w; check the owner and the permissions of the file", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, tooLarge+1))
	if err != nil {
		return nil, failed("b24oauth/filestore: the grant cannot be read: %w", err)
	}
	if len(raw) > tooLarge {
		return nil, &unusable{path, errTooLarge}
	}
	return raw, nil
}

// unchanged returns ErrConflict if the file no longer holds the grant that
// given was, by [b24oauth.Grant.Fence]. Nobody else holds the lock, but a
// restored backup or a person with an editor does not ask for it.
func (f grantFile) unchanged(ctx context.Context, given stored) error {
	now, err := f.read(ctx)
	var damaged *unusable
	switch {
	case errors.As(err, &damaged):
		return fmt.Errorf("%w: %v", b24oauth.ErrConflict, err) // what the file is, the next read says
	case err != nil:
		return err
	case now.fence != given.fence:
		return fmt.Errorf("%w: %s does not hold the grant that was read", b24oauth.ErrConflict, f.path())
	}
	return nil
}

// save replaces given with g, or leaves it whole. The new grant is written
// first: what fails afterwards, such as opening a file in a process that has
// too many open, leaves it for the next Update.
func (f grantFile) save(next *staged, given stored, g *b24oauth.Grant) error {
	raw, err := encode(f.key, g)
	if err != nil {
		return fmt.Errorf("b24oauth/filestore: %s was not written: %w", f.path(), err)
	}
	if err := next.write(raw); err != nil {
		return err
	}
	ctx := context.Background()
	if err := f.unchanged(ctx, given); err != nil {
		next.kept = !errors.Is(err, b24oauth.ErrConflict)
		return err
	}
	return f.change(func() error { return next.rename(ctx, f.path()) })
}

// remove removes the file that given was read from.
func (f grantFile) remove(given stored) error {
	ctx := context.Background()
	if err := f.unchanged(ctx, given); err != nil {
		return err
	}
	if given.grant == nil {
		return nil
	}
	return f.change(func() error {
		return retry(ctx, saveBudget, func() error { return os.Remove(f.path()) })
	})
}

// change runs do, which changes the directory entry of the grant, and makes it
// last.
func (f grantFile) change(do func() error) error {
	if err := do(); err != nil {
		return failed("b24oauth/filestore: the stored grant was not changed: %w", err)
	}
	if err := syncDir(f.open); err != nil {
		return fmt.Errorf("b24oauth/filestore: %s is changed, but may not be after a power cut: %w", f.path(), err)
	}
	return nil
}

// retry repeats op until the budget is used up while another Update replaces
// the file just now, or another program has it open in a way that forbids it,
// which only Windows knows. The budget counts from the first failure: on a busy
// disk one try can take longer than all of it.
func retry(ctx context.Context, budget time.Duration, op func() error) error {
	const pause = 10 * time.Millisecond
	for end := (time.Time{}); ; {
		err := op()
		if end.IsZero() {
			end = time.Now().Add(budget)
		}
		if err == nil || !inUse(err) && !errors.Is(err, errReplaced) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
