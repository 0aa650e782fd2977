package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

var errOwn = errors.New("fn's own")

// fail makes an Update fail, and with fn's error alone.
func fail(t *testing.T, s b24oauth.Store) {
	t.Helper()
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, errOwn })
	if !errors.Is(err, errOwn) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update = %v; want fn's error alone", err)
	}
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

// failToSave is an Update whose pair n is not stored, and not staged either.
func failToSave(t *testing.T, s b24oauth.Store, dir string, n int64) {
	t.Helper()
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return pair(n), os.Remove(filepath.Join(dir, "grant-key.new"))
	})
	if err == nil || errors.Is(err, b24oauth.ErrConflict) {
		t.Fatalf("Update whose file has gone = %v; want an error, and no conflict", err)
	}
}

// blocked tells whether an Update of s has to wait for longer than d.
func blocked(t *testing.T, s b24oauth.Store, d time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := s.Update(ctx, "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil })
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update = %v", err)
	}
	return err != nil
}

func TestKilledHolderMakesNobodyWait(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	p := start(t, roleHold, dir)
	if said := p.line(t); said != "held" {
		t.Fatalf("another process says %q", said)
	}
	p.kill()
	if blocked(t, s, 20*time.Second) {
		t.Error("an Update after a killed one has to wait")
	}
	wantPair(t, s, 1)
	fail(t, s)
	wantNothingStaged(t, dir)
}

func TestHolderThatEndsLetsTheNextIn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, roleHold, dir)
	p.line(t)
	p.stdin.Close()
	store(t, s, 1) // waits until the process lets go
	p.wait(t)
	for _, leave := range []func(){func() { panic("fn's own") }, runtime.Goexit} {
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
		fail(t, open(t, dir))
	}
}

func skipIfOpenFilesStay(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed on Windows, so the save cannot be made to fail")
	}
}

// Whoever came in between would find the refresh token used up.
func TestAfterAFailedSaveOnlyItsOwnStoreGoesOn(t *testing.T) {
	skipIfOpenFilesStay(t)
	for name, end := range map[string]func(t *testing.T, s b24oauth.Store){
		"saved": func(t *testing.T, s b24oauth.Store) { store(t, s, 2) },
		"purged": func(t *testing.T, s b24oauth.Store) {
			err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, b24oauth.ErrDelete })
			if err != nil {
				t.Errorf("Update = %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, other := open(t, dir), open(t, dir)
				store(t, s, 1)
				failToSave(t, s, dir, 2)
				wantPair(t, s, 1)
				if !blocked(t, other, 40*time.Second) {
					t.Error("another Store goes on at once")
				}
				begin := time.Now()
				fail(t, s) // has nothing to save, and takes nothing back
				failToSave(t, s, dir, 2)
				if !blocked(t, other, 40*time.Second) {
					t.Error("another Store goes on after the second failed save")
				}
				end(t, s)
				if took := time.Since(begin); took > 41*time.Second {
					t.Errorf("the Store itself waited, %v in all", took)
				}
				begin = time.Now()
				if store(t, other, 3); time.Since(begin) != 0 {
					t.Errorf("another Store waited for %v after the grant was %s", time.Since(begin), name)
				}
			})
		})
	}
}

func TestOthersGoOnWhenTheLeaseOfAFailedSaveEnds(t *testing.T) {
	skipIfOpenFilesStay(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, other := open(t, dir), open(t, dir)
		store(t, s, 1)
		begin := time.Now()
		failToSave(t, s, dir, 2)
		waited := make(chan time.Duration, 1)
		go func() {
			store(t, other, 3)
			waited <- time.Since(begin)
		}()
		// While it waits, the Store itself is not in its way, nor it in that of the Store.
		<-time.After(10 * time.Second)
		now := time.Now()
		if fail(t, s); time.Since(now) > time.Second {
			t.Errorf("the Store itself waited for %v", time.Since(now))
		}
		if took := <-waited; took < 44*time.Second || took > 46*time.Second {
			t.Errorf("another Store went on after %v; want 45 s", took)
		}
		wantPair(t, s, 3)
	})
}

func TestConflictOfTheOwnerEndsTheLeaseOfAFailedSave(t *testing.T) {
	skipIfOpenFilesStay(t)
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	failToSave(t, s, dir, 2)
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		put(t, dir, ".json", pair(7))
		return pair(2), nil
	})
	if !errors.Is(err, b24oauth.ErrConflict) {
		t.Fatalf("Update = %v; want ErrConflict", err)
	}
	if blocked(t, open(t, dir), 10*time.Second) {
		t.Error("another Store has to wait, though nobody has a pair to save")
	}
}

func TestOnlyABelievableMarkMakesAnyoneWait(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mark := func(left time.Duration) string {
			return filestore.Mark("ABCDEFGHIJKLMNOPQRSTUVWXYZ", time.Now().Add(left))
		}
		for name, c := range map[string]struct {
			text  string
			waits bool
		}{
			"of another process":             {"\x00" + mark(40*time.Second), true},
			"behind what is not ours":        {"a note" + mark(40*time.Second), true},
			"that is over":                   {"\x00" + mark(-time.Second), false},
			"of before the clock was set":    {"\x00" + mark(time.Hour), false},
			"that something follows":         {"\x00" + mark(40*time.Second) + "x", false},
			"that is cut":                    {"\x00" + mark(40 * time.Second)[:50], false},
			"of an Update of before":         {"\x00\nan Update began at 2026-01-02T03:04:05Z in process 7 and has not ended\n", false},
			"none":                           {"", false},
			"none, and a note of its length": {"\x00" + fmt.Sprintf("%*s", len(mark(0)), "note"), false},
		} {
			dir := filepath.Join(root, name)
			s := open(t, dir)
			if err := os.WriteFile(filepath.Join(dir, "grant-key.lock"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
			err := s.Update(ctx, "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil })
			if cancel(); errors.Is(err, context.DeadlineExceeded) != c.waits || !c.waits && err != nil {
				t.Errorf("a mark %s: Update = %v; want it to wait: %t", name, err, c.waits)
			}
		}
	})
}

func TestLockFileKeepsWhatIsNotOurs(t *testing.T) {
	skipIfOpenFilesStay(t)
	for _, note := range []string{"", "x", "a note of a person, who took this file for theirs; it is longer than any mark of ours may ever get to be, is it not?\n"} {
		dir := t.TempDir()
		s := open(t, dir)
		path := filepath.Join(dir, "grant-key.lock")
		if err := os.WriteFile(path, []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			store(t, s, 1)
			failToSave(t, s, dir, 2)
			failToSave(t, s, dir, 2)
			marked, err := os.ReadFile(path)
			if err != nil || !bytes.HasPrefix(marked, []byte(note)) || bytes.Count(marked, []byte("kept for")) != 1 {
				t.Errorf("after failed saves the lock file is %q, %v; want %q and one mark", marked, err, note)
			}
			store(t, s, 3)
			if left, err := os.ReadFile(path); err != nil || string(bytes.TrimRight(left, "\x00")) != note {
				t.Errorf("after a save the lock file is %q, %v; want %q", left, err, note)
			}
		}
	}
}
