package b24oauth_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/storetest"
)

// gcm returns an AEAD whose key is made of the letter.
func gcm(t *testing.T, letter string) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher([]byte(strings.Repeat(letter, 32)))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func put(t *testing.T, s b24oauth.Store, key string, g *b24oauth.Grant) {
	t.Helper()
	err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil })
	if err != nil {
		t.Fatal(err)
	}
}

var sealedGrant = &b24oauth.Grant{
	AccessToken:      "access-canary",
	RefreshToken:     "refresh-canary",
	ApplicationToken: "application-canary",
	MemberID:         "a223c6b3710f85df22e9377d6c4f7553",
	ClientEndpoint:   "https://example.bitrix24.com/rest/",
}

func TestSealedStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
		place := new(b24oauth.MemoryStore)
		return func() b24oauth.Store { return b24oauth.Sealed(place, gcm(t, "a")) }
	})
}

func TestSealedStoreHoldsNoTokenInPlainText(t *testing.T) {
	place := new(b24oauth.MemoryStore)
	put(t, b24oauth.Sealed(place, gcm(t, "a")), key, sealedGrant)
	g, err := place.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(stored), "canary") {
		t.Errorf("stored in plain text: %s", stored)
	}
	if g.MemberID != sealedGrant.MemberID {
		t.Errorf("member_id is %q, want it readable", g.MemberID)
	}
}

func TestSealedValueOpensOnlyWhereItWasPut(t *testing.T) {
	place := new(b24oauth.MemoryStore)
	sealed := b24oauth.Sealed(place, gcm(t, "a"))
	put(t, sealed, key, sealedGrant)
	moved, err := place.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	swapped := *moved
	swapped.AccessToken, swapped.RefreshToken = moved.RefreshToken, moved.AccessToken
	damaged := *moved
	damaged.RefreshToken = strings.TrimSuffix(moved.RefreshToken, moved.RefreshToken[len(moved.RefreshToken)-4:])
	plain := *moved
	plain.RefreshToken = "planted"
	elsewhere, formerly, server, application := *moved, *moved, *moved, *moved
	elsewhere.ClientEndpoint = "https://evil.example/rest/"
	formerly.FormerHosts = append(slices.Clone(moved.FormerHosts), "portal.bitrix24.com")
	server.ServerEndpoint = "https://evil.example/rest/"
	application.ClientID = "another"
	for name, g := range map[string]*b24oauth.Grant{
		"moved": moved, "swapped": &swapped, "damaged": &damaged, "plain": &plain,
		"another portal": &elsewhere, "another former portal": &formerly, "another server": &server, "another application": &application,
	} {
		t.Run(name, func(t *testing.T) {
			at := key
			if name == "moved" {
				at = "another"
			}
			put(t, place, at, g)
			if _, err := sealed.Load(t.Context(), at); err == nil {
				t.Error("Load opened it")
			}
			err := sealed.Update(t.Context(), at, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				t.Error("fn was called")
				return nil, b24oauth.ErrDelete
			})
			if err == nil {
				t.Error("Update opened it")
			}
			left, err := place.Load(t.Context(), at)
			if diff := cmp.Diff(g, left); err != nil || diff != "" {
				t.Errorf("the stored value was touched (%v):\n%s", err, diff)
			}
		})
	}
}

func TestSealedKeysRotate(t *testing.T) {
	place := new(b24oauth.MemoryStore)
	put(t, b24oauth.Sealed(place, gcm(t, "a")), key, sealedGrant)

	both := b24oauth.Sealed(place, gcm(t, "b"), gcm(t, "a"))
	g, err := both.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, both, key, g)
	for _, tt := range []struct {
		key   string
		opens bool
	}{{"a", false}, {"b", true}} {
		g, err := b24oauth.Sealed(place, gcm(t, tt.key)).Load(t.Context(), key)
		if (err == nil) != tt.opens {
			t.Errorf("key %s: %v", tt.key, err)
		}
		if tt.opens && cmp.Diff(sealedGrant, g) != "" {
			t.Errorf("key %s: %s", tt.key, cmp.Diff(sealedGrant, g))
		}
	}
}

func TestSealedMigratesAPlainStoreOnlyIfAsked(t *testing.T) {
	place := new(b24oauth.MemoryStore)
	put(t, place, key, sealedGrant)
	sealed := b24oauth.Sealed(place, gcm(t, "a"))
	if _, err := sealed.Load(t.Context(), key); err == nil || !strings.Contains(err.Error(), "ReadPlain") {
		t.Errorf("Load of a plain grant: %v, want an error that names ReadPlain", err)
	}
	sealed.ReadPlain = true
	g, err := sealed.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, sealed, key, g)
	sealed.ReadPlain = false
	if _, err := sealed.Load(t.Context(), key); err != nil {
		t.Errorf("after a write: %v", err)
	}
}

func TestSealedWithoutAKeyIsAnError(t *testing.T) {
	err := b24oauth.Sealed(new(b24oauth.MemoryStore)).Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return sealedGrant, nil
	})
	if err == nil || !strings.Contains(err.Error(), "cipher.AEAD") {
		t.Errorf("Update without a key: %v", err)
	}
}

// unlisted is a Store that cannot enumerate.
type unlisted struct{ b24oauth.Store }

func TestSealedSaysThatItCannotEnumerate(t *testing.T) {
	for _, err := range b24oauth.Sealed(unlisted{new(b24oauth.MemoryStore)}, gcm(t, "a")).Keys(t.Context()) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Keys: %v", err)
		}
	}
}
