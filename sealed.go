package b24oauth

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// SealedStore is a [Store] over another one that sees no token in plain text.
// [Sealed] makes it.
type SealedStore struct {
	// ReadPlain accepts tokens that are stored in plain text, as they are
	// after years without encryption; each is sealed when it is next written,
	// at its renewal. Leave it false once all are: a plain token found then is
	// an error, since whoever can write to the Store could have put it there.
	ReadPlain bool

	store Store
	aeads []cipher.AEAD
}

var _ Store = (*SealedStore)(nil)

// Sealed returns a Store that keeps its grants in s with the access token,
// the refresh token and the application token encrypted, each bound to its
// key, its place, its application and the addresses that it may go to: moved
// to another key, or with the portal's address changed, it does not open. All
// else, such as the expiry, is neither encrypted nor bound.
//
// The first AEAD writes, all of them read: to change the key, put the new one
// first and drop the old one when every grant has been renewed, which takes
// as long as the least used of them. Any AEAD with nonces long enough to be
// random does, such as AES-GCM. Without one every call is an error.
//
// It does not protect against somebody who puts an older value of the same
// key back.
func Sealed(s Store, aead ...cipher.AEAD) *SealedStore {
	return &SealedStore{store: s, aeads: aead}
}

// Load implements [Store].
func (s *SealedStore) Load(ctx context.Context, key string) (*Grant, error) {
	g, err := s.store.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(key, g)
}

// Update implements [Store]. A stored grant that does not open is an error,
// and fn is not called.
func (s *SealedStore) Update(ctx context.Context, key string, fn func(context.Context, *Grant) (*Grant, error)) error {
	return s.store.Update(ctx, key, func(ctx context.Context, g *Grant) (*Grant, error) {
		g, err := s.open(key, g)
		if err != nil {
			return nil, err
		}
		if g, err = fn(ctx, g); err != nil || g == nil {
			return nil, err
		}
		return s.seal(key, g)
	})
}

// Keys yields the keys of the Store beneath, or [errors.ErrUnsupported] if
// that one cannot enumerate.
func (s *SealedStore) Keys(ctx context.Context) iter.Seq2[string, error] {
	if k, ok := s.store.(interface {
		Keys(context.Context) iter.Seq2[string, error]
	}); ok {
		return k.Keys(ctx)
	}
	return func(yield func(string, error) bool) {
		yield("", fmt.Errorf("b24oauth: keys of %T: %w", s.store, errors.ErrUnsupported))
	}
}

// sealMark begins a sealed token. No token of Bitrix24's has a colon.
const sealMark = "sealed:v1:"

// sealedField is a token of a grant, and the name it is bound to.
type sealedField struct {
	name  string
	value *string
}

func (g *Grant) secrets() []sealedField {
	return []sealedField{
		{"access_token", &g.AccessToken},
		{"refresh_token", &g.RefreshToken},
		{"application_token", &g.ApplicationToken},
	}
}

func (s *SealedStore) seal(key string, g *Grant) (*Grant, error) {
	if len(s.aeads) == 0 {
		return nil, errNoAEAD
	}
	g = g.clone()
	aead := s.aeads[0]
	for _, f := range g.secrets() {
		if *f.value == "" {
			continue
		}
		nonce := make([]byte, aead.NonceSize())
		rand.Read(nonce) // never fails
		box := aead.Seal(nonce, nonce, []byte(*f.value), binding(key, f.name, g))
		*f.value = sealMark + base64.RawStdEncoding.EncodeToString(box)
	}
	return g, nil
}

func (s *SealedStore) open(key string, g *Grant) (*Grant, error) {
	if len(s.aeads) == 0 {
		return nil, errNoAEAD
	}
	if g == nil {
		return nil, nil
	}
	g = g.clone()
	for _, f := range g.secrets() {
		sealed, ok := strings.CutPrefix(*f.value, sealMark)
		switch {
		case *f.value == "" || !ok && s.ReadPlain:
			continue
		case !ok:
			return nil, fmt.Errorf("b24oauth: the %s stored under %q is not sealed: to migrate a Store that was written without Sealed, set SealedStore.ReadPlain", f.name, key)
		}
		plain, err := s.unseal(sealed, binding(key, f.name, g))
		if err != nil {
			return nil, fmt.Errorf("b24oauth: the %s stored under %q does not open with any of the %d keys given to Sealed: add the key that wrote it; if there is none, the value was damaged, moved from another grant, or an address in it was changed", f.name, key, len(s.aeads))
		}
		*f.value = plain
	}
	return g, nil
}

func (s *SealedStore) unseal(sealed string, bound []byte) (string, error) {
	box, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil {
		return "", err
	}
	for _, aead := range s.aeads {
		if n := aead.NonceSize(); len(box) >= n {
			if plain, err := aead.Open(nil, box[:n], box[n:], bound); err == nil {
				return string(plain), nil
			}
		}
	}
	return "", errors.New("no key opens it")
}

// binding is the additional data that ties a token to where it stands and to
// where it may go.
func binding(key, field string, g *Grant) []byte {
	to := append([]string{"b24oauth", field, key, g.ClientID, g.ClientEndpoint, g.ServerEndpoint}, g.FormerHosts...)
	return fmt.Appendf(nil, "%q", to)
}

var errNoAEAD = errors.New("b24oauth: Sealed was given no cipher.AEAD: pass at least one")

// String names the type of the Store below.
func (s *SealedStore) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("SealedStore{store=%T}", s.store)
}

// Format implements [fmt.Formatter] for every verb, without the keys.
func (s *SealedStore) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }
