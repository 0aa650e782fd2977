package sealedstore_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sealedstore"
	"github.com/b24go/b24oauth/storetest"
)

const key = "portal"

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

var example = &b24oauth.Grant{
	AccessToken:      "access-canary",
	RefreshToken:     "refresh-canary",
	ApplicationToken: "application-canary",
	MemberID:         "a223c6b3710f85df22e9377d6c4f7553",
	ClientEndpoint:   "https://example.bitrix24.com/rest/",
}

func TestStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
		beneath := new(b24oauth.MemoryStore)
		return func() b24oauth.Store { return sealedstore.New(beneath, gcm(t, "a")) }
	})
}

func TestStoreBeneathHasNoTokenInPlainText(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	put(t, sealedstore.New(beneath, gcm(t, "a")), key, example)
	g, err := beneath.Load(t.Context(), key)
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
	if g.MemberID != example.MemberID {
		t.Errorf("member_id is %q, want it readable", g.MemberID)
	}
}

func TestSealedValueOpensOnlyWhereItWasPut(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	sealed := sealedstore.New(beneath, gcm(t, "a"))
	put(t, sealed, key, example)
	moved, err := beneath.Load(t.Context(), key)
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
			put(t, beneath, at, g)
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
			left, err := beneath.Load(t.Context(), at)
			if diff := cmp.Diff(g, left); err != nil || diff != "" {
				t.Errorf("the stored value was touched (%v):\n%s", err, diff)
			}
		})
	}
}

func TestKeyIsNotNeededAnyMoreOnceTheGrantIsRenewed(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	put(t, sealedstore.New(beneath, gcm(t, "a")), key, example)
	both := sealedstore.New(beneath, gcm(t, "b"), gcm(t, "a"))
	opens := func(letter string, want *b24oauth.Grant) {
		t.Helper()
		g, err := sealedstore.New(beneath, gcm(t, letter)).Load(t.Context(), key)
		switch {
		case want == nil && err == nil:
			t.Errorf("key %s still opens it", letter)
		case want != nil && (err != nil || cmp.Diff(want, g) != ""):
			t.Errorf("key %s: %v\n%s", letter, err, cmp.Diff(want, g))
		}
	}
	unrenewed := *example
	unrenewed.Status = "P"
	put(t, both, key, &unrenewed)
	opens("a", &unrenewed)

	renewed := unrenewed
	renewed.AccessToken = "another-canary" // by a server that does not rotate the refresh token
	put(t, both, key, &renewed)
	opens("a", nil)
	opens("b", &renewed)
}

// optimistic is a Store that gives no exclusivity, as one does whose lease has
// ended, and tells by the stored refresh token whether a grant has changed.
type optimistic struct{ b24oauth.MemoryStore }

func (o *optimistic) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	given, err := o.Load(ctx, key)
	if err != nil {
		return err
	}
	was := given.RefreshToken
	next, err := fn(ctx, given)
	if err != nil {
		return err
	}
	return o.MemoryStore.Update(ctx, key, func(_ context.Context, stored *b24oauth.Grant) (*b24oauth.Grant, error) {
		if stored.RefreshToken != was {
			return nil, b24oauth.ErrConflict
		}
		return next, nil
	})
}

func TestLateSaveOfANewPairSurvivesAWriteThatKeptTheOldOne(t *testing.T) {
	for name, other := range map[string]func(beneath b24oauth.Store) *sealedstore.Store{
		"with the same key": func(beneath b24oauth.Store) *sealedstore.Store { return sealedstore.New(beneath, gcm(t, "a")) },
		"with a newer key": func(beneath b24oauth.Store) *sealedstore.Store {
			return sealedstore.New(beneath, gcm(t, "b"), gcm(t, "a"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			beneath := new(optimistic)
			late := sealedstore.New(beneath, gcm(t, "a"))
			put(t, sealedstore.New(&beneath.MemoryStore, gcm(t, "a")), key, example)
			next := *example
			next.AccessToken, next.RefreshToken = "next-access", "next-refresh"
			err := late.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				err := other(beneath).Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					g.Status = "P"
					return g, nil
				})
				return &next, err
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := other(beneath).Load(t.Context(), key)
			if err != nil || cmp.Diff(&next, got) != "" {
				t.Errorf("stored is %v, %v", got, err)
			}
		})
	}
}

func TestTokenOfAnotherPlaceIsSealedAnew(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	sealed := sealedstore.New(beneath, gcm(t, "a"))
	put(t, sealed, key, example)
	before, err := beneath.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	moved := *example
	moved.ClientEndpoint = "https://renamed.bitrix24.com/rest/"
	put(t, sealed, key, &moved)
	after, err := beneath.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if after.AccessToken == before.AccessToken || after.RefreshToken == before.RefreshToken || after.ApplicationToken == before.ApplicationToken {
		t.Error("a token is still bound to the portal's former address")
	}
	if got, err := sealed.Load(t.Context(), key); err != nil || cmp.Diff(&moved, got) != "" {
		t.Errorf("it opens as %v, %v", got, err)
	}
}

// A form of the mark or of the binding that changes makes every stored grant
// unreadable. These were written by the first that there was.
func TestStoredFormStaysReadable(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	stored := *example
	stored.AccessToken = "sealed:v1:/p4nwNypBNWp980/MYJZ7I1nr8PeqAeQ2z4xgwtFyUrzcbPyN2Lj80M"
	stored.RefreshToken = "sealed:v1:kkV+QpzRIpEgD71cJOaLbVjVBZ9B5jtpFitSxO1DTveFe+JZqSMkikug"
	stored.ApplicationToken = "sealed:v1:OQ98ap4J5Q/DG2k3E+hEY0+YoUsmn+309PbAB7m5DvTXkWQjTvKEB5nu6k+ZAw"
	put(t, beneath, key, &stored)
	if got, err := sealedstore.New(beneath, gcm(t, "a")).Load(t.Context(), key); err != nil || cmp.Diff(example, got) != "" {
		t.Errorf("it opens as %v, %v", got, err)
	}
}

func TestPlainStoreIsMigratedOnlyIfAsked(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	put(t, beneath, key, example)
	sealed := sealedstore.New(beneath, gcm(t, "a"))
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

func TestKeyThatIsNilIsAnErrorOfEveryCall(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	put(t, beneath, key, example)
	for name, s := range map[string]*sealedstore.Store{
		"to write with": sealedstore.New(beneath, nil),
		"to read with":  sealedstore.New(beneath, gcm(t, "a"), nil),
		"zero value":    {},
	} {
		_, load := s.Load(t.Context(), key)
		update := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			t.Errorf("%s: fn was called", name)
			return example, nil
		})
		errs := []error{load, update}
		for _, err := range s.Keys(t.Context()) {
			errs = append(errs, err)
		}
		for _, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "cipher.AEAD") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// leaky is an AEAD and a Store with a secret in plain sight.
type leaky struct {
	Secret string
	cipher.AEAD
	b24oauth.Store
}

func TestGuarantee8StoreTellsNoKey(t *testing.T) {
	s := sealedstore.New(leaky{Secret: "canary"}, leaky{Secret: "canary"})
	const want = "sealedstore.Store{store=sealedstore_test.leaky}"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	data, err := json.Marshal(s)
	if err != nil || strings.Contains(string(data), "canary") {
		t.Errorf("JSON tells %s, %v", data, err)
	}
	if got := fmt.Sprint((*sealedstore.Store)(nil)); got != "<nil>" {
		t.Errorf("nil prints %s", got)
	}
}

// unlisted is a Store that cannot enumerate.
type unlisted struct{ b24oauth.Store }

func TestStoreBeneathThatCannotEnumerateIsSaidSo(t *testing.T) {
	for _, err := range sealedstore.New(unlisted{new(b24oauth.MemoryStore)}, gcm(t, "a")).Keys(t.Context()) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Keys: %v", err)
		}
	}
}
