package filestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
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
	// format is the only form that the files have had.
	format = 1

	// tooLarge is more than any grant needs and little enough to be read
	// into memory unseen.
	tooLarge = 1 << 20

	// growth is how much longer than the grant before it a new grant can be
	// without needing room that was not taken beforehand.
	growth = 4096

	readBudget = 2 * time.Second
	saveBudget = 10 * time.Second
)

// contents is a grant file.
type contents struct {
	Format int             `json:"format"`
	Key    string          `json:"key"` // escaped, but in full: JSON cannot hold every string
	Nonce  string          `json:"nonce"`
	Grant  json.RawMessage `json:"grant"`

	key string // Key without its escapes
}

var (
	errForeign = errors.New("it belongs to another key: was it copied or renamed?")
	errDamaged = errors.New("it is empty, truncated or damaged")
)

// unusable is the error for a file that is there and cannot be used. It
// quotes nothing of the file, which may hold tokens.
func unusable(path string, why error) error {
	return fmt.Errorf("b24oauth/filestore: %s is not usable: %w; it was left as it is: restore it from a backup, or remove it and install the application again", path, why)
}

func decode(raw []byte) (*contents, error) {
	var c contents
	if err := json.Unmarshal(raw, &c); err != nil {
		// The decoder's own words can quote the file.
		return nil, errDamaged
	}
	if c.Format > format {
		return nil, fmt.Errorf("it has format %d, written by a later release; this one reads up to %d", c.Format, format)
	}
	key, ok := unescape(c.Key)
	if c.Format < 1 || c.Nonce == "" || !ok || key == "" {
		return nil, errDamaged
	}
	c.key = key
	return &c, nil
}

func encode(key string, g *b24oauth.Grant) ([]byte, error) {
	stored, err := g.MarshalBinary()
	if err != nil {
		return nil, err
	}
	// The nonce makes two writes of equal grants differ.
	c := contents{Format: format, Key: escape(key), Nonce: rand.Text(), Grant: stored}
	raw, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return nil, err
	}
	if len(raw) >= tooLarge {
		return nil, fmt.Errorf("the grant takes %d bytes; a file of %d or more would not be read again", len(raw), tooLarge)
	}
	return append(raw, '\n'), nil
}

// grantFile is where the grant of one key is kept.
type grantFile struct {
	key  string
	base string // path without a suffix
}

func (f grantFile) path() string { return f.base + grantSuffix }

// stored is what a grant file holds; the zero value if there is none.
type stored struct {
	raw   []byte
	grant *b24oauth.Grant
}

func (f grantFile) read(ctx context.Context) (stored, error) {
	raw, err := readFile(ctx, f.path())
	if errors.Is(err, fs.ErrNotExist) {
		// No directory is not the same as no grant: what is not stored
		// is given up, what cannot be reached is not.
		if _, err := os.Stat(filepath.Dir(f.base)); err != nil {
			return stored{}, fmt.Errorf("b24oauth/filestore: the directory cannot be reached: %w", err)
		}
		return stored{}, nil
	}
	if err != nil {
		return stored{}, err
	}
	c, err := decode(raw)
	if err != nil {
		return stored{}, unusable(f.path(), err)
	}
	if c.key != f.key {
		return stored{}, unusable(f.path(), errForeign)
	}
	g := new(b24oauth.Grant)
	if err := g.UnmarshalBinary(c.Grant); err != nil {
		return stored{}, unusable(f.path(), err)
	}
	return stored{raw: raw, grant: g}, nil
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
	// Looked at before it is opened, because opening a pipe would wait.
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: the grant cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, unusable(path, errors.New("it is not a regular file"))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: the grant cannot be read: %w; check the owner and the permissions of the file", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, tooLarge+1))
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: the grant cannot be read: %w", err)
	}
	if len(raw) > tooLarge {
		return nil, unusable(path, errors.New("it is larger than 1 MiB"))
	}
	return raw, nil
}

// unchanged returns ErrConflict if the file is no longer what it was when
// given was read. Nobody else holds the lock, but a restored backup or a
// person with an editor does not ask for it.
func (f grantFile) unchanged(ctx context.Context, given stored) error {
	raw, err := readFile(ctx, f.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		raw = nil
	case err != nil:
		return err
	}
	if !bytes.Equal(raw, given.raw) {
		return fmt.Errorf("%w: %s is not the file that was read", b24oauth.ErrConflict, f.path())
	}
	return nil
}

// save replaces given with g, or leaves it whole.
func (f grantFile) save(next *staged, given stored, g *b24oauth.Grant) error {
	raw, err := encode(f.key, g)
	if err != nil {
		return fmt.Errorf("b24oauth/filestore: %s was not written: %w", f.path(), err)
	}
	ctx := context.Background()
	if err := f.unchanged(ctx, given); err != nil {
		return err
	}
	if err := next.write(raw); err != nil {
		return err
	}
	return change(f.path(), func() error { return next.rename(ctx, f.path()) })
}

// remove removes the file that given was read from.
func (f grantFile) remove(given stored) error {
	ctx := context.Background()
	if err := f.unchanged(ctx, given); err != nil {
		return err
	}
	if given.raw == nil {
		return nil
	}
	return change(f.path(), func() error {
		return retry(ctx, saveBudget, func() error { return os.Remove(f.path()) })
	})
}

// change runs do, which changes the directory entry of path, and makes it
// last.
func change(path string, do func() error) error {
	if err := do(); err != nil {
		return fmt.Errorf("b24oauth/filestore: the stored grant was not changed: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("b24oauth/filestore: %s is changed, but may not be after a power cut: %w", path, err)
	}
	return nil
}

// retry repeats op while another program has the file open in a way that
// forbids it, which only Windows knows, until the budget is used up.
func retry(ctx context.Context, budget time.Duration, op func() error) error {
	const pause = 10 * time.Millisecond
	for end := time.Now().Add(budget); ; {
		err := op()
		if err == nil || !inUse(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
