//go:build unix

package filestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// Whoever followed a link would cut, lock or hand out a file of somebody
// else's; whoever opened a pipe would wait for ever.
func TestNothingAtOurNamesIsFollowed(t *testing.T) {
	const precious = "somebody else's file, longer than any mark of ours: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
	kinds := map[string]func(dir, at string) error{
		"link to a file": func(dir, at string) error { return os.Symlink(filepath.Join(dir, "precious"), at) },
		"link to the grant of another key": func(dir, at string) error {
			return os.Symlink(filepath.Join(dir, "grant-other.json"), at)
		},
		"hard link of the grant of another key": func(dir, at string) error {
			return os.Link(filepath.Join(dir, "grant-other.json"), at)
		},
		"hard link of a file": func(dir, at string) error { return os.Link(filepath.Join(dir, "precious"), at) },
		"dangling link":       func(dir, at string) error { return os.Symlink(filepath.Join(dir, "nothing"), at) },
		"pipe":                func(_, at string) error { return syscall.Mkfifo(at, 0o600) },
		"directory":           func(_, at string) error { return os.Mkdir(at, 0o700) },
	}
	for _, suffix := range []string{".lock", ".json", ".new", ".try"} {
		for kind, put := range kinds {
			t.Run(kind+" at "+suffix, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				other := func(_ context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) { return pair(7), nil }
				if err := s.Update(t.Context(), "other", other); err != nil {
					t.Fatal(err)
				}
				if suffix != ".json" {
					store(t, s, 1)
				}
				at := filepath.Join(dir, "grant-key"+suffix)
				if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				if err := errors.Join(os.WriteFile(filepath.Join(dir, "precious"), []byte(precious), 0o600), put(dir, at)); err != nil {
					t.Fatal(err)
				}
				before, err := os.ReadFile(filepath.Join(dir, "grant-other.json"))
				if err != nil {
					t.Fatal(err)
				}

				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				called := false
				err = s.Update(ctx, "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					called = true
					if g == nil || g.UserID != 1 {
						t.Errorf("fn is given %v", g)
					}
					return pair(2), nil
				})
				switch suffix {
				case ".new", ".try": // a leftover, of which the name alone is removed
					if err != nil {
						t.Errorf("Update = %v", err)
					}
					wantPair(t, s, 2)
				default:
					if called || err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), at) {
						t.Errorf("fn called: %t, Update = %v; want an error that names %s", called, err, at)
					}
				}
				if suffix == ".json" {
					if g, err := s.Load(ctx, "key"); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
						t.Errorf("Load = %v, %v; want an error that is not ErrNoGrant", g, err)
					}
				}
				if raw, err := os.ReadFile(filepath.Join(dir, "precious")); err != nil || string(raw) != precious {
					t.Errorf("somebody else's file is now %q, %v", raw, err)
				}
				if raw, err := os.ReadFile(filepath.Join(dir, "grant-other.json")); err != nil || string(raw) != string(before) {
					t.Errorf("the other key's grant is now %q, %v", raw, err)
				}
				if _, err := os.Lstat(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("at the end of a dangling link: %v", err)
				}
			})
		}
	}
}

// A backup by hard links must not stop the Store, which replaces the file and
// never writes to it. A kill between the steps of an Update leaves one too.
func TestHardLinkOfTheGrantItselfIsNotWrittenTo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	backup := filepath.Join(dir, "backup")
	for _, to := range []string{backup, filepath.Join(dir, "grant-key.new")} {
		if err := os.Link(filepath.Join(dir, "grant-key.json"), to); err != nil {
			t.Skip(err)
		}
	}
	was, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	wantGiven(t, s, 1)
	store(t, s, 2)
	wantPair(t, s, 2)
	wantNothingStaged(t, dir)
	if raw, err := os.ReadFile(backup); err != nil || string(raw) != string(was) {
		t.Errorf("the backup is now %q, %v", raw, err)
	}
}

// A renewal under sudo must not lock the service out of its own grant.
func TestFilesThatRootMakesAreTheDirectoryOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := t.TempDir()
	s := open(t, dir)
	if err := os.Chown(dir, 12345, 23456); err != nil {
		t.Skip(err)
	}
	owned := func(when string, names ...string) {
		t.Helper()
		for _, name := range names {
			info, err := os.Lstat(filepath.Join(dir, "grant-key"+name))
			if err != nil {
				t.Error(err)
				continue
			}
			if is := info.Sys().(*syscall.Stat_t); is.Uid != 12345 || is.Gid != 23456 || info.Mode().Perm() != 0o600 {
				t.Errorf("%s %s is of %d:%d, %v; want 12345:23456 and 0600", when, name, is.Uid, is.Gid, info.Mode())
			}
		}
	}
	for range 2 {
		err := s.Update(t.Context(), "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			owned("during the Update", ".lock", ".new")
			return addOne(t.Context(), g)
		})
		if err != nil {
			t.Fatal(err)
		}
		owned("after it", ".lock", ".json")
	}
}
