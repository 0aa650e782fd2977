package filestore_test

import (
	"context"
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

// A mount point can have a grant of the key, from a start without the volume:
// what is saved there is gone when the volume is back.
func TestAnotherDirectoryIsNotTrustedThoughItHasTheGrant(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows")
	}
	dir := filepath.Join(t.TempDir(), "grants")
	s := open(t, dir)
	store(t, s, 1)
	if err := errors.Join(os.Rename(dir, dir+" away"), os.CopyFS(dir, os.DirFS(dir+" away"))); err != nil {
		t.Fatal(err)
	}
	if g, err := s.Load(t.Context(), "key"); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v, %v; want an error that is not ErrNoGrant", g, err)
	}
	called := false
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		called = true
		return nil, nil
	})
	if err == nil || called {
		t.Errorf("Update = %v, and fn was called: %t", err, called)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+" away", dir)); err != nil {
		t.Fatal(err)
	}
	wantPair(t, s, 1)
}

// Nothing may be inserted where the volume is not: its grant is on its way
// from the server, and the next Update finds it on the volume.
func TestVolumeThatGoesDuringAnUpdateKeepsItsPair(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows")
	}
	for stored := range int64(2) {
		dir := filepath.Join(t.TempDir(), "grants")
		s := open(t, dir)
		if stored > 0 {
			store(t, s, stored)
		}
		err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			return pair(stored + 1), errors.Join(os.Rename(dir, dir+" away"), os.Mkdir(dir, 0o700))
		})
		if err == nil || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("Update = %v; want an error, and no conflict", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("in the other directory there is now %v, %v; want nothing", left, err)
		}
		if err := errors.Join(os.Remove(dir), os.Rename(dir+" away", dir)); err != nil {
			t.Fatal(err)
		}
		wantGiven(t, s, stored+1)
		wantPair(t, s, stored+1)
		wantNothingStaged(t, dir)
	}
}

// A volume that comes back between the look at the file and the one at the
// directory makes the file that was missing no missing grant.
func TestVolumeThatComesAndGoesIsNeverAnEmptyStore(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory with a lock file cannot be renamed safely on Windows")
	}
	dir := filepath.Join(t.TempDir(), "grants")
	s := open(t, dir)
	store(t, s, 1)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.Rename(dir, dir+" away"), os.Rename(dir+" away", dir)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 5_000 {
		if _, err := s.Load(t.Context(), "key"); errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("Load = %v", err)
			break
		}
		n := 0
		var keysErr error
		for _, err := range s.Keys(t.Context()) {
			n, keysErr = n+1, err
		}
		if n == 0 && keysErr == nil {
			t.Error("Keys yields nothing")
			break
		}
	}
	close(stop)
	<-stopped
}
