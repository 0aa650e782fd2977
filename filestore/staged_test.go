package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/google/go-cmp/cmp"
)

func TestLeftoversAreNeitherGrantsNorInTheWay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	leftover := filepath.Join(dir, "grant-key.new")
	if err := os.WriteFile(leftover, []byte("half a grant"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "key"); !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v; want ErrNoGrant", err)
	}
	for key, err := range s.Keys(t.Context()) {
		t.Errorf("Keys yields %q, %v", key, err)
	}
	store(t, s, 1)
	wantPair(t, s, 1)
	if _, err := os.Stat(leftover); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

func TestProcessKilledBeforeTheRenameKeepsItsPair(t *testing.T) {
	for stored := range int64(2) {
		dir := t.TempDir()
		s := open(t, dir)
		if stored > 0 {
			store(t, s, stored)
		}
		p := start(t, roleStage, dir)
		if said := p.line(t); said != "staged" {
			t.Fatalf("another process says %q", said)
		}
		p.kill()
		wantGiven(t, s, stored+1)
		wantPair(t, s, stored+1)
		wantNothingStaged(t, dir)
	}
}

// wantGiven checks what fn is given: pair n, or nil for 0.
func wantGiven(t *testing.T, s b24oauth.Store, n int64) {
	t.Helper()
	err := s.Update(t.Context(), "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if g == nil && n != 0 || g != nil && g.RefreshToken != pair(n).RefreshToken {
			t.Errorf("fn is given %v; want pair %d", g, n)
		}
		return nil, nil
	})
	if err != nil {
		t.Errorf("Update = %v", err)
	}
}

func wantNothingStaged(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestPairThatCouldNotBeRenamedIsRecovered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	disk := errors.New("disk is ill")
	undo := filestore.SetRename(func(string, string) error { return disk })
	err := s.Update(t.Context(), "key", addOne)
	undo()
	if !errors.Is(err, disk) {
		t.Fatalf("Update = %v; want the error of the rename", err)
	}
	wantPair(t, s, 1)
	wantGiven(t, s, 2)
	wantPair(t, s, 2)
}

// Another Update began because the lock file was removed: its file is not to
// become the grant before it is written, nor to be removed.
func TestFileOfAnotherUpdateIsLeft(t *testing.T) {
	for outcome, end := range map[string]error{"stored": nil, "failed": errOwn} {
		dir := t.TempDir()
		s := open(t, dir)
		store(t, s, 1)
		staged := filepath.Join(dir, "grant-key.new")
		err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			if err := os.Rename(staged, staged+"~"); err != nil {
				t.Skip(err) // it is open
			}
			if err := os.WriteFile(staged, make([]byte, 4096), 0o600); err != nil {
				t.Fatal(err)
			}
			return pair(2), end
		})
		if err == nil || !errors.Is(err, end) && end != nil || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("%s: Update = %v; want an error, and no conflict", outcome, err)
		}
		wantPair(t, s, 1)
		if raw, err := os.ReadFile(staged); err != nil || len(raw) != 4096 {
			t.Errorf("%s: the other Update's file: %d bytes, %v", outcome, len(raw), err)
		}
	}
}

// put makes g what the file of "key" with the suffix holds, and returns its path.
func put(t *testing.T, dir, suffix string, g *b24oauth.Grant) string {
	t.Helper()
	elsewhere, path := t.TempDir(), filepath.Join(dir, "grant-key"+suffix)
	err := open(t, elsewhere).Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil })
	if err := errors.Join(err, os.Rename(filepath.Join(elsewhere, "grant-key.json"), path)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStagedGrantIsTakenUpIfItIsTheNewerByLineage(t *testing.T) {
	grant := func(token string, root, generation uint64, former ...uint64) *b24oauth.Grant {
		return &b24oauth.Grant{RefreshToken: token, Lineage: b24oauth.Lineage{Root: root, Generation: generation, Former: former}}
	}
	tombstone := func(root uint64, former ...uint64) *b24oauth.Grant {
		return &b24oauth.Grant{Deleted: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Lineage: b24oauth.Lineage{Root: root, Former: former}}
	}
	// As they were stored before there was a lineage.
	raw, accessOnly := &b24oauth.Grant{RefreshToken: "raw"}, &b24oauth.Grant{AccessToken: "raw"}
	ofRaw, err := strconv.ParseUint(raw.Fence(), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stored, staged *b24oauth.Grant
		newer          bool
	}{
		"a refresh":                         {grant("s", 7, 1), grant("n", 7, 2), true},
		"of the same generation":            {grant("s", 7, 2), grant("n", 7, 2), false},
		"of an earlier generation":          {grant("s", 7, 3), grant("n", 7, 2), false},
		"of another authorization":          {grant("s", 7, 0), grant("n", 8, 9), false},
		"of one that replaced the stored":   {grant("s", 7, 9), grant("n", 8, 0, 6, 7), true},
		"of one that the stored replaced":   {grant("s", 8, 0, 7), grant("n", 7, 9), false},
		"a refresh of a raw pair":           {raw, grant("n", ofRaw, 1), true},
		"a refresh of a raw access token":   {accessOnly, grant("n", ofRaw, 1), true},
		"of one that replaced a raw pair":   {raw, grant("n", 8, 0, ofRaw), true},
		"a raw pair":                        {grant("s", 7, 0), raw, false},
		"a tombstone":                       {grant("s", 7, 3), tombstone(8, 7), true},
		"over a tombstone that replaced it": {tombstone(8, 7), grant("n", 7, 9), false},
		"over a tombstone that it replaced": {tombstone(8), grant("n", 9, 0, 8), true},
		"over a tombstone without a root":   {tombstone(0), grant("n", 9, 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, ".json", c.stored)
			put(t, dir, ".new", c.staged)
			want := c.stored
			if c.newer {
				want = c.staged
			}
			s := open(t, dir)
			err := s.Update(t.Context(), "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if diff := cmp.Diff(want, g); diff != "" {
					t.Errorf("fn is given (-want +got):\n%s", diff)
				}
				return nil, nil
			})
			if err != nil {
				t.Errorf("Update = %v", err)
			}
			if g, err := s.Load(t.Context(), "key"); err != nil || g.Fence() != want.Fence() {
				t.Errorf("Load = %v, %v; want %v", g, err, want)
			}
			wantNothingStaged(t, dir)
		})
	}
}

func TestStagedFileThatIsNotWholeIsDiscarded(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"room only":         func(w []byte) []byte { return make([]byte, len(w)) },
		"half written":      func(w []byte) []byte { return append(w[:len(w)/2:len(w)/2], make([]byte, len(w))...) },
		"not yet shortened": func(w []byte) []byte { return append(w, make([]byte, 4096)...) },
		"of another key":    func(w []byte) []byte { return bytes.Replace(w, []byte(`"key": "key"`), []byte(`"key": "yek"`), 1) },
		"without a grant":   func([]byte) []byte { return []byte(`{"format": 1, "key": "key", "grant": null}`) },
		"too large":         func([]byte) []byte { return make([]byte, 1<<20+1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			store(t, s, 1)
			path := put(t, dir, ".new", pair(2))
			whole, err := os.ReadFile(path)
			if err := errors.Join(err, os.WriteFile(path, spoil(whole), 0o600)); err != nil {
				t.Fatal(err)
			}
			wantGiven(t, s, 1)
			wantPair(t, s, 1)
			wantNothingStaged(t, dir)
		})
	}
}

// What cannot be read may be the only copy of a pair.
func TestStagedFileThatCannotBeReadIsLeft(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("permissions stop nobody here")
	}
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, 1)
	path := put(t, dir, ".new", pair(2))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), "key", addOne); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("Update = %v; want an error that names the file", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is no longer there: %v", err)
	}
}
