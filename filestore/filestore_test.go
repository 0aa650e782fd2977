package filestore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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

// A source gives up a grant that is not stored any more; a volume that is not
// mounted must not look like that.
func TestMissingDirectoryIsNotAMissingGrant(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "grants")
	s := open(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "key"); err == nil || errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v; want an error, and not ErrNoGrant", err)
	}
	if err := s.Update(t.Context(), "key", addOne); err == nil {
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
	"nonce": "…",
	"grant": {
		"v": 1,
		"access_token": "a",
		"refresh_token": "r",
		"expiry": "2026-01-02T03:04:05Z"
	}
}
`
	got := regexp.MustCompile(`"nonce": "[A-Z2-7]{26}"`).ReplaceAllString(string(raw), `"nonce": "…"`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
}

// What another program does to the file while fn runs, without the lock.
func TestFileChangedMeanwhileIsAConflict(t *testing.T) {
	path := func(dir string) string { return filepath.Join(dir, "grant-key.json") }
	for name, meanwhile := range map[string]func(dir string) error{
		"removed": func(dir string) error { return os.Remove(path(dir)) },
		"an older one restored": func(dir string) error {
			raw, err := os.ReadFile(filepath.Join(dir, "backup"))
			return errors.Join(err, os.WriteFile(path(dir), raw, 0o600))
		},
		"truncated": func(dir string) error { return os.Truncate(path(dir), 10) },
	} {
		for outcome, end := range map[string]error{"stored": nil, "deleted": b24oauth.ErrDelete} {
			t.Run(name+"/"+outcome, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				store(t, s, 1)
				if err := os.Link(path(dir), filepath.Join(dir, "backup")); err != nil {
					t.Skip(err)
				}
				store(t, s, 1) // the same grant, but another value
				var then []byte
				err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					if err := meanwhile(dir); err != nil {
						t.Fatal(err)
					}
					then, _ = os.ReadFile(path(dir))
					return pair(2), end
				})
				if !errors.Is(err, b24oauth.ErrConflict) {
					t.Errorf("Update = %v; want ErrConflict", err)
				}
				if now, _ := os.ReadFile(path(dir)); string(now) != string(then) {
					t.Errorf("the file was %q and is %q", then, now)
				}
			})
		}
	}
}

func TestGrantThatAppearsMeanwhileIsAConflict(t *testing.T) {
	path, whole := grantFile(t, "key")
	s := open(t, filepath.Dir(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if g != nil {
			t.Errorf("fn was given %v", g)
		}
		return pair(2), os.WriteFile(path, whole, 0o600)
	})
	if !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update = %v; want ErrConflict", err)
	}
	if g, err := s.Load(t.Context(), "key"); err != nil || g.AccessToken != tellTale {
		t.Errorf("Load = %v, %v; want what appeared", g, err)
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
	if fail(t, s) {
		t.Error("a failing Update after one that did not begin is a conflict")
	}
}
