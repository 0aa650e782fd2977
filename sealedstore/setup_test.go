package sealedstore_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/sealedstore"
)

// wantSetup checks that a Config on the Store has nobody authorize again for what
// is a matter of the setup, and asks no server about a sealed token.
func wantSetup(t *testing.T, s b24oauth.Store, advice string) {
	t.Helper()
	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: s}
	_, tokenErr := config.TokenSource(key).Token()
	_, grantErr := config.TokenSource(key).Grant(t.Context())
	another := *example
	another.RefreshToken = "another-canary"
	for what, err := range map[string]error{
		"Token": tokenErr, "Grant": grantErr, "Save": config.Save(t.Context(), key, &another), "Delete": config.Delete(t.Context(), key),
	} {
		if !errors.Is(err, b24oauth.ErrMisconfigured) || errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s = %v; want ErrMisconfigured, and %q", what, err, advice)
		}
	}
}

func TestGrantThatNoKeyOpensIsMisconfigured(t *testing.T) {
	for name, beneath := range map[string]func(*testing.T) b24oauth.Store{
		"in memory": func(*testing.T) b24oauth.Store { return new(b24oauth.MemoryStore) },
		"in a directory": func(t *testing.T) b24oauth.Store {
			s, err := filestore.Open(filepath.Join(t.TempDir(), "grants"))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := beneath(t)
			put(t, sealedstore.New(store, gcm(t, "a")), key, example)
			wantSetup(t, sealedstore.New(store, gcm(t, "b"), gcm(t, "c")), "add the key that wrote it")
			wantSetup(t, sealedstore.New(store, gcm(t, "a"), nil), "cipher.AEAD")

			// The key is found again.
			if _, err := sealedstore.New(store, gcm(t, "b"), gcm(t, "a")).Load(t.Context(), key); err != nil {
				t.Errorf("with the key: %v", err)
			}
		})
	}
}

func TestPlainGrantIsMisconfigured(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	put(t, beneath, key, example)
	wantSetup(t, sealedstore.New(beneath, gcm(t, "a")), "ReadPlain")
}

// The authorization server would call a sealed token unknown, and a user would
// be asked to authorize again for a line that is missing from a program.
func TestSealedGrantThatIsReadWithoutThePackageIsMisconfigured(t *testing.T) {
	for name, g := range map[string]*b24oauth.Grant{
		"both tokens":       example,
		"an access token":   {AccessToken: "a", ClientEndpoint: example.ClientEndpoint},
		"no access token":   {RefreshToken: "r", ClientEndpoint: example.ClientEndpoint},
		"of an application": {AccessToken: "a", RefreshToken: "r", ClientID: "id", ClientEndpoint: example.ClientEndpoint},
	} {
		t.Run(name, func(t *testing.T) {
			beneath := new(b24oauth.MemoryStore)
			put(t, sealedstore.New(beneath, gcm(t, "a")), key, g)
			config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: beneath}
			for what, call := range map[string]func() error{
				"Token":  func() error { _, err := config.TokenSource(key).Token(); return err },
				"Grant":  func() error { _, err := config.TokenSource(key).Grant(t.Context()); return err },
				"Delete": func() error { return config.Delete(t.Context(), key) },
				"Save":   func() error { return config.Save(t.Context(), key, example) },
			} {
				if err := call(); !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "sealedstore") {
					t.Errorf("%s = %v; want ErrMisconfigured that names sealedstore", what, err)
				}
			}
			once := sealedstore.New(beneath, gcm(t, "a"))
			if got, err := once.Load(t.Context(), key); err != nil || got.AccessToken != g.AccessToken {
				t.Errorf("the grant is %v, %v now; want it as it was", got, err)
			}
		})
	}
	t.Run("sealed twice", func(t *testing.T) {
		beneath := new(b24oauth.MemoryStore)
		once := sealedstore.New(beneath, gcm(t, "a"))
		put(t, sealedstore.New(once, gcm(t, "b")), key, example)
		wantSetup(t, once, "sealedstore")
	})
}

func TestStoreBeneathThatIsNilIsMisconfigured(t *testing.T) {
	wantSetup(t, sealedstore.New(nil, gcm(t, "a")), "no Store")
}

// failing is a Store that says what is wrong with it, and wants a Logger.
type failing struct {
	b24oauth.MemoryStore
	err    error
	logger *slog.Logger
}

func (f *failing) Load(context.Context, string) (*b24oauth.Grant, error) { return nil, f.err }

func (f *failing) Update(context.Context, string, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	return f.err
}

func (f *failing) UseLogger(l *slog.Logger) { f.logger = l }

func TestWhatTheStoreBeneathSaysIsHandedOn(t *testing.T) {
	beneath := &failing{err: errors.Join(errors.New("mystore: the table is missing"), b24oauth.ErrMisconfigured)}
	wantSetup(t, sealedstore.New(beneath, gcm(t, "a")), "the table is missing")

	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", Store: sealedstore.New(sealedstore.New(beneath, gcm(t, "a")), gcm(t, "b")), Logger: slog.New(slog.DiscardHandler)}
	if _, err := config.TokenSource(key).Token(); err == nil || beneath.logger != config.Logger {
		t.Errorf("the Store beneath two others has no Logger of the Config's (%v)", err)
	}
	sealedstore.New(new(b24oauth.MemoryStore), gcm(t, "a")).UseLogger(config.Logger) // of one that wants none
}
