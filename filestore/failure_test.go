package filestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

// calls are those of a Store and of a Config on it that ask the Store.
var calls = map[string]func(ctx context.Context, s *filestore.Store, c *b24oauth.Config) error{
	"Load": func(ctx context.Context, s *filestore.Store, _ *b24oauth.Config) error {
		_, err := s.Load(ctx, "key")
		return err
	},
	"Update": func(ctx context.Context, s *filestore.Store, _ *b24oauth.Config) error {
		return s.Update(ctx, "key", addOne)
	},
	"Keys": func(ctx context.Context, _ *filestore.Store, c *b24oauth.Config) (err error) {
		for _, e := range c.Keys(ctx) {
			err = errors.Join(err, e)
		}
		return err
	},
	"Token": func(ctx context.Context, _ *filestore.Store, c *b24oauth.Config) error {
		_, err := c.TokenSource("key").TokenContext(ctx)
		return err
	},
	"Grant": func(ctx context.Context, _ *filestore.Store, c *b24oauth.Config) error {
		_, err := c.TokenSource("key").Grant(ctx)
		return err
	},
	"Save": func(ctx context.Context, _ *filestore.Store, c *b24oauth.Config) error {
		return c.Save(ctx, "key", &b24oauth.Grant{RefreshToken: "another"})
	},
	"Delete": func(ctx context.Context, _ *filestore.Store, c *b24oauth.Config) error { return c.Delete(ctx, "key") },
}

// wantSetup checks that what is wrong does not pass, by the word of each method.
func wantSetup(t *testing.T, s *filestore.Store, methods ...string) {
	t.Helper()
	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: s}
	for _, method := range methods {
		if err := calls[method](t.Context(), s, config); !errors.Is(err, b24oauth.ErrMisconfigured) || errors.Is(err, b24oauth.ErrUnavailable) {
			t.Errorf("%s = %v; want ErrMisconfigured", method, err)
		}
	}
}

var (
	writing = []string{"Update", "Save", "Delete"}
	one     = append([]string{"Load", "Token", "Grant"}, writing...)
	each    = append([]string{"Keys"}, one...)
)

func TestWhatStaysUntilSomebodyActsIsMisconfigured(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows, and its modes say nothing")
	}
	moved := func(dir string) error { return os.Rename(dir, dir+" away") }
	chmod := func(name string, mode os.FileMode) func(string) error {
		return func(dir string) error { return os.Chmod(filepath.Join(dir, name), mode) }
	}
	inPlaceOf := func(name string) func(string) error {
		return func(dir string) error {
			at := filepath.Join(dir, name)
			return errors.Join(os.RemoveAll(at), os.MkdirAll(filepath.Join(at, "not empty"), 0o700))
		}
	}
	for _, c := range []struct {
		name    string
		do      func(dir string) error
		methods []string
		asRoot  bool // it stops root too
	}{
		{"the directory is gone", moved, each, true},
		{"a file is in its place", func(dir string) error { return errors.Join(moved(dir), os.WriteFile(dir, nil, 0o600)) }, each, true},
		{"another directory is in its place", func(dir string) error { return errors.Join(moved(dir), os.Mkdir(dir, 0o700)) }, each, true},
		{"a loop of links is in its place", func(dir string) error { return errors.Join(moved(dir), os.Symlink(dir, dir)) }, each, true},
		{"the directory above is gone", func(dir string) error { return moved(filepath.Dir(dir)) }, each, true},
		{"the directory above cannot be entered", chmod("..", 0), each, false},
		{"the directory cannot be entered", chmod(".", 0), each, false},
		{"the directory cannot be written to", chmod(".", 0o500), writing, false},
		{"the grant cannot be read", chmod("grant-key.json", 0), one, false},
		{"the lock cannot be written to", chmod("grant-key.lock", 0o400), writing, false},
		{"a directory is in place of the grant", inPlaceOf("grant-key.json"), one, true},
		{"a directory is in place of the lock", inPlaceOf("grant-key.lock"), writing, true},
		{"a directory is in place of the next grant", inPlaceOf("grant-key.new"), writing, true},
		{"the grant is damaged", func(dir string) error { return os.Truncate(filepath.Join(dir, "grant-key.json"), 9) }, one, true},
		{"a misnamed grant", func(dir string) error { return os.WriteFile(filepath.Join(dir, "grant-KEY.json"), nil, 0o600) }, []string{"Keys"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.asRoot && os.Geteuid() == 0 {
				t.Skip("permissions stop nobody here")
			}
			dir := filepath.Join(t.TempDir(), "above", "grants")
			s := open(t, dir)
			store(t, s, 1)
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			wantSetup(t, s, c.methods...)
			if !c.asRoot {
				_ = os.Chmod(filepath.Dir(dir), 0o700)
				_ = os.Chmod(dir, 0o700)
			}
		})
	}
}

func TestOpenTellsWhatStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "grants")} {
		if _, err := filestore.Open(dir); !errors.Is(err, b24oauth.ErrMisconfigured) && runtime.GOOS != "windows" {
			t.Errorf("Open(%q) = %v; want ErrMisconfigured", dir, err)
		}
	}
}

// What heals by itself, or may, is asked about again soon.
func TestWhatMayPassIsNotMisconfigured(t *testing.T) {
	for _, why := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.EAGAIN, errors.New("no reason given")} {
		s := open(t, t.TempDir())
		store(t, s, 1)
		undo := filestore.SetRename(func(string, string) error { return &os.LinkError{Op: "rename", Err: why} })
		err := s.Update(t.Context(), "key", addOne)
		undo()
		if !errors.Is(err, why) || errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("Update = %v; want it passing", err)
		}
	}
}
