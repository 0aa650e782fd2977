package filestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/gofrs/flock"
)

func TestReadersSeeWholeGrants(t *testing.T) {
	s := open(t, unsyncedDir(t))
	store(t, s, 0)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 300 {
			if err := s.Update(t.Context(), "key", addOne); err != nil {
				t.Errorf("Update = %v", err)
			}
		}
	}()
	for last := int64(0); ; {
		select {
		case <-over:
			return
		default:
		}
		g, err := s.Load(t.Context(), "key")
		switch {
		case err != nil:
			t.Fatalf("Load = %v", err)
		case g.UserID < last || g.AccessToken != pair(g.UserID).AccessToken:
			t.Fatalf("Load = %v after pair %d", g, last)
		}
		last = g.UserID
	}
}

// Two paths to a directory are one place, for the exclusivity within a process too.
func TestWaitingForATurnTakesNoTimeInABubble(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, same := open(t, dir), open(t, link)
		begun, end, done := make(chan bool), make(chan bool), make(chan error)
		go func() {
			done <- s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				begun <- true
				<-end
				return pair(1), nil
			})
		}()
		<-begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := same.Update(ctx, "key", addOne); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update of a key that is taken = %v; want the end of ctx", err)
		}
		go func() { done <- same.Update(t.Context(), "key", addOne) }()
		synctest.Wait()
		begin := time.Now()
		close(end)
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("Update = %v", err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the one who waited got exclusivity after %v; want at once", took)
		}
		wantPair(t, s, 2)
	})
}

func TestWaitingForAnotherProcessPolls(t *testing.T) {
	dir := t.TempDir()
	store(t, open(t, dir), 1)
	foreign := flock.New(filepath.Join(dir, "grant-key.lock"))
	if locked, err := foreign.TryLock(); !locked || err != nil {
		t.Fatalf("lock: %t, %v", locked, err)
	}
	defer foreign.Unlock()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Update(ctx, "key", addOne); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update of a key that is taken = %v; want the end of ctx", err)
		}
		done := make(chan error)
		go func() { done <- s.Update(t.Context(), "key", addOne) }()
		synctest.Wait()
		begin := time.Now()
		foreign.Unlock()
		if err := <-done; err != nil {
			t.Errorf("Update = %v", err)
		}
		if took := time.Since(begin); took == 0 || took > 50*time.Millisecond {
			t.Errorf("a lock given back at once was taken after %v; want at most 50 ms", took)
		}
		wantPair(t, s, 2)
	})
}
