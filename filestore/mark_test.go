package filestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/b24go/b24oauth"
)

var errOwn = errors.New("fn's own")

// fail makes an Update fail and tells whether it was a conflict too.
func fail(t *testing.T, s b24oauth.Store) (conflict bool) {
	t.Helper()
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, errOwn })
	if !errors.Is(err, errOwn) {
		t.Fatalf("Update = %v; want fn's error", err)
	}
	return errors.Is(err, b24oauth.ErrConflict)
}

func store(t *testing.T, s b24oauth.Store, n int64) {
	t.Helper()
	if err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return pair(n), nil }); err != nil {
		t.Fatal(err)
	}
}

func wantPair(t *testing.T, s b24oauth.Store, n int64) {
	t.Helper()
	g, err := s.Load(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if g.UserID != n || g.RefreshToken != pair(n).RefreshToken {
		t.Errorf("stored is %v; want pair %d", g, n)
	}
}

func TestKilledHolderIsToldToTheNext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	for _, next := range []string{"fails", "succeeds"} {
		p := start(t, roleHold, dir)
		if said := p.line(t); said != "held" {
			t.Fatalf("another process says %q", said)
		}
		p.kill()
		wantPair(t, s, 1)
		if next == "fails" {
			if !fail(t, s) {
				t.Error("a failing Update after a killed one is no conflict")
			}
		} else {
			store(t, s, 1)
		}
		if fail(t, s) {
			t.Errorf("two Updates after the killed one, when the first %s, it is still told", next)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestHolderThatEndsIsNotToldToTheNext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, roleHold, dir)
	p.line(t)
	p.stdin.Close()
	store(t, s, 1) // waits until the process lets go
	p.wait(t)
	if fail(t, s) {
		t.Error("a failing Update after one that ended well is a conflict")
	}
	for name, leave := range map[string]func(){"panic": func() { panic("fn's own") }, "Goexit": runtime.Goexit} {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer func() { recover() }()
			s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				leave()
				return nil, nil
			})
		}()
		<-gone
		if fail(t, s) {
			t.Errorf("a failing Update after a %s in fn is a conflict", name)
		}
	}
}

func TestFailedSaveLosesNothingAndIsToldToTheNext(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed on Windows, so the save cannot be made to fail")
	}
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	spoil := func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return pair(2), os.Remove(filepath.Join(dir, "grant-key.new"))
	}
	if err := s.Update(t.Context(), "key", spoil); err == nil || errors.Is(err, b24oauth.ErrConflict) {
		t.Fatalf("Update whose file has gone = %v; want an error, and no conflict", err)
	}
	wantPair(t, s, 1)
	if !fail(t, s) {
		t.Error("a failing Update after one that could not save is no conflict")
	}

	if err := s.Update(t.Context(), "key", spoil); err == nil {
		t.Fatal("Update whose file has gone succeeds")
	}
	store(t, s, 2) // as its caller does, with the pair in memory
	wantPair(t, s, 2)
	if fail(t, s) {
		t.Error("a failing Update after the save was made good is a conflict")
	}
}

func TestDamagedGrantKeepsTheMarkOfAKilledHolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	path := filepath.Join(dir, "grant-key.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, roleHold, dir)
	p.line(t)
	p.kill()
	if err := os.WriteFile(path, whole[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), "key", addOne); err == nil {
		t.Fatal("Update of a damaged grant succeeds")
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if !fail(t, s) {
		t.Error("the failing Update after the file was repaired is no conflict")
	}
}
