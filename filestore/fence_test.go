package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

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
				store(t, s, 2)
				var then []byte
				err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					if err := meanwhile(dir); err != nil {
						t.Fatal(err)
					}
					then, _ = os.ReadFile(path(dir))
					return pair(3), end
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

// A tool that marks a grant as refused, or corrects its address, leaves the
// same grant: the only copy of a new pair is not refused for it.
func TestGrantWithTheSameRefreshTokenIsTheSame(t *testing.T) {
	for name, change := range map[string]func(*b24oauth.Grant){
		"the verdict": func(g *b24oauth.Grant) {
			g.Refused = b24oauth.Refusal{Code: "invalid_grant", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		},
		"the address":      func(g *b24oauth.Grant) { g.ClientEndpoint = "https://new.bitrix24.com/rest/" },
		"the access token": func(g *b24oauth.Grant) { g.AccessToken = "another" },
	} {
		for outcome, end := range map[string]error{"stored": nil, "purged": b24oauth.ErrDelete} {
			t.Run(name+"/"+outcome, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				store(t, s, 1)
				err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					changed := pair(1)
					change(changed)
					put(t, dir, ".json", changed)
					return pair(2), end
				})
				if err != nil {
					t.Errorf("Update = %v", err)
				}
				if end == nil {
					wantPair(t, s, 2)
				} else if _, err := s.Load(t.Context(), "key"); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Errorf("Load = %v; want ErrNoGrant", err)
				}
			})
		}
	}
}

// The fence is what fn was given, and not what it made of that.
func TestGrantThatFnWroteIntoIsTheOneItWasGiven(t *testing.T) {
	s := open(t, t.TempDir())
	store(t, s, 1)
	err := s.Update(t.Context(), "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		*g = *pair(2)
		return g, nil
	})
	if err != nil {
		t.Errorf("Update = %v", err)
	}
	wantPair(t, s, 2)
}

func TestFileWithANonceIsRead(t *testing.T) {
	path, whole := grantFile(t, "key")
	old := bytes.Replace(whole, []byte(`"key": "key",`), []byte(`"key": "key", "nonce": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",`), 1)
	if bytes.Equal(old, whole) {
		t.Fatalf("no nonce can be put into %s", whole)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Dir(path))
	if g, err := s.Load(t.Context(), "key"); err != nil || g.RefreshToken != tellTale {
		t.Errorf("Load = %v, %v; want the grant", g, err)
	}
	store(t, s, 2)
	now, err := os.ReadFile(path)
	if err != nil || bytes.Contains(now, []byte("nonce")) {
		t.Errorf("the file is now %s, %v; want no nonce", now, err)
	}
}
