package sealedstore

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// mark begins a sealed token. No token of Bitrix24's has a colon.
const mark = "sealed:v1:"

// field is a token of a grant, and the name it is bound to.
type field struct {
	name  string
	value *string
}

const fields = 3

// fieldsOf returns the tokens of a grant, always in this order.
func fieldsOf(g *b24oauth.Grant) [fields]field {
	return [fields]field{
		{"access_token", &g.AccessToken},
		{"refresh_token", &g.RefreshToken},
		{"application_token", &g.ApplicationToken},
	}
}

// token is what the Store beneath had in a field; the zero value if that was
// empty or not sealed.
type token struct {
	sealed, plain string
	bound         []byte
	current       bool // the key that writes has sealed it
}

// open returns a copy of a grant with its tokens in plain text, and what they
// were sealed as.
func (s *Store) open(key string, g *b24oauth.Grant) (*b24oauth.Grant, [fields]token, error) {
	var found [fields]token
	if g == nil {
		return nil, found, nil
	}
	opened := *g
	for i, f := range fieldsOf(&opened) {
		sealed, ok := strings.CutPrefix(*f.value, mark)
		switch {
		case *f.value == "" || !ok && s.ReadPlain:
			continue
		case !ok:
			return nil, found, setup.Wrong(fmt.Errorf("b24oauth/sealedstore: the %s stored under %q is not sealed: to migrate a Store that was written in plain text, set ReadPlain", f.name, key))
		}
		bound := binding(key, f.name, &opened)
		plain, current, err := s.unseal(sealed, bound)
		if err != nil {
			return nil, found, setup.Wrong(fmt.Errorf("b24oauth/sealedstore: the %s stored under %q does not open with any of the %d keys given to New: add the key that wrote it; if there is none, the value was damaged, moved from another grant, or an address in it was changed", f.name, key, len(s.keys)))
		}
		found[i] = token{*f.value, plain, bound, current}
		*f.value = plain
	}
	return &opened, found, nil
}

func (s *Store) unseal(sealed string, bound []byte) (plain string, current bool, _ error) {
	box, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil {
		return "", false, err
	}
	for i, aead := range s.keys {
		if n := aead.NonceSize(); len(box) >= n {
			if plain, err := aead.Open(nil, box[:n], box[n:], bound); err == nil {
				return string(plain), i == 0, nil
			}
		}
	}
	return "", false, errors.New("no key opens it")
}

// seal returns a copy of a grant with its tokens sealed. One that was found in
// the Store stays as it was found: the Store beneath tells by the stored
// refresh token whether a grant has changed, and sealed anew, an unchanged one
// would have it refuse the late save of a pair that somebody else fetched with
// that token. What an older key sealed stays until the grant is renewed.
func (s *Store) seal(key string, g *b24oauth.Grant, found [fields]token) *b24oauth.Grant {
	sealed := *g
	renewed := found[0].plain != g.AccessToken
	for i, f := range fieldsOf(&sealed) {
		if *f.value == "" {
			continue
		}
		bound := binding(key, f.name, g)
		if was := found[i]; was.plain == *f.value && bytes.Equal(was.bound, bound) && (was.current || !renewed) {
			*f.value = was.sealed
			continue
		}
		aead := s.keys[0]
		nonce := make([]byte, aead.NonceSize())
		rand.Read(nonce) // never fails
		box := aead.Seal(nonce, nonce, []byte(*f.value), bound)
		*f.value = mark + base64.RawStdEncoding.EncodeToString(box)
	}
	return &sealed
}

// binding is the additional data that ties a token to where it stands and to
// where it may go.
func binding(key, field string, g *b24oauth.Grant) []byte {
	to := append([]string{"b24oauth", field, key, g.ClientID, g.ClientEndpoint, g.ServerEndpoint}, g.FormerHosts...)
	return fmt.Appendf(nil, "%q", to)
}
