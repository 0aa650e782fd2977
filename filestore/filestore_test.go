package filestore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/google/go-cmp/cmp"
)

func TestOpenMakesADirectoryForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "grants")
	s := open(t, dir)
	store(t, s, 1)
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	modes := map[string]fs.FileMode{}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			modes[filepath.Base(path)] = info.Mode().Perm()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{"deep": 0o700, "grants": 0o700, "grant-key.json": 0o600, "grant-key.lock": 0o600}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
}

func TestOpenRefusesWhatIsNoDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", file, filepath.Join(file, "below")} {
		if s, err := filestore.Open(path); err == nil || !strings.HasPrefix(err.Error(), "b24oauth/filestore: ") || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%q) = %v, %v; want an error that names it", path, s, err)
		}
	}
}

func TestOpenFollowsTheDirectoryNotTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "grants")
	store(t, s, 1)
	t.Chdir(t.TempDir())
	wantPair(t, s, 1)
}

func TestEmptyKeyIsAnError(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Load(t.Context(), ""); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v; want an error that says that the key is empty", err)
	}
	if err := s.Update(t.Context(), "", addOne); err == nil {
		t.Error("Update succeeds")
	}
}

func TestFileCanBeReadByAPerson(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	err := s.Update(t.Context(), "Portal/1", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return &b24oauth.Grant{AccessToken: "a", RefreshToken: "r", Expiry: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "grant-%50ortal%2f1.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
	"format": 1,
	"key": "%50ortal%2f1",
	"grant": {
		"v": 1,
		"access_token": "a",
		"refresh_token": "r",
		"expiry": "2026-01-02T03:04:05Z"
	}
}
`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
}

func TestGrantTooLargeToBeReadAgainIsNotWritten(t *testing.T) {
	s := open(t, t.TempDir())
	store(t, s, 1)
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return &b24oauth.Grant{AccessToken: "a", Scope: strings.Repeat("s", 1<<20)}, nil
	})
	if err == nil {
		t.Error("Update with a grant of more than 1 MiB succeeds")
	}
	wantPair(t, s, 1)
}

// A refresh token that could not be replaced must not be used up.
func TestNothingIsRenewedThatCouldNotBeSaved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	inTheWay := filepath.Join(dir, "grant-key.new", "full")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called")
		return pair(2), nil
	})
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(inTheWay)) {
		t.Errorf("Update = %v; want an error that names what is in the way", err)
	}
	wantPair(t, s, 1)
	if err := os.RemoveAll(filepath.Dir(inTheWay)); err != nil {
		t.Fatal(err)
	}
	store(t, s, 2)
}
