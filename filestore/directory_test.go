package filestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

// wantUnreachable checks that the Store is in error and not empty.
func wantUnreachable(t *testing.T, s *filestore.Store, says string) {
	t.Helper()
	_, loadErr := s.Load(t.Context(), "key")
	updateErr := s.Update(t.Context(), "key", addOne)
	var keysErr error
	for key, err := range s.Keys(t.Context()) {
		if err == nil {
			t.Errorf("Keys yields %q", key)
		}
		keysErr = err
	}
	for method, err := range map[string]error{"Load": loadErr, "Update": updateErr, "Keys": keysErr} {
		if err == nil || errors.Is(err, b24oauth.ErrNoGrant) || !strings.HasPrefix(err.Error(), "b24oauth/filestore: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s = %v; want an error that is not ErrNoGrant and says %q", method, err, says)
		}
	}
}

// A volume that is not mounted must not look like one without grants: whoever
// believed it would install the application anew.
func TestAnotherDirectoryUnderThePathIsNotAnEmptyStore(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows")
	}
	dir := filepath.Join(t.TempDir(), "grants")
	s := open(t, dir)
	store(t, s, 1)

	if err := os.Rename(dir, dir+" away"); err != nil {
		t.Fatal(err)
	}
	wantUnreachable(t, s, "cannot be reached")

	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantUnreachable(t, s, "is not the directory that was opened")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("in the other directory there is now %v, %v; want nothing", left, err)
	}

	if err := errors.Join(os.Remove(dir), os.Rename(dir+" away", dir)); err != nil {
		t.Fatal(err)
	}
	wantPair(t, s, 1)
	store(t, s, 2)
	wantPair(t, s, 2)
}

// Its copy is a Store as well; only that a grant is missing from it is not
// believed.
func TestCopyOfTheDirectoryStillHasItsGrants(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows")
	}
	dir := filepath.Join(t.TempDir(), "grants")
	s := open(t, dir)
	store(t, s, 1)
	if err := errors.Join(os.Rename(dir, dir+" away"), os.CopyFS(dir, os.DirFS(dir+" away"))); err != nil {
		t.Fatal(err)
	}
	wantPair(t, s, 1)
	store(t, s, 2)
	wantPair(t, s, 2)
	if _, err := s.Load(t.Context(), "another key"); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load of what is not there = %v; want an error that is not ErrNoGrant", err)
	}
}
