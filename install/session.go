package install

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Session says who calls the application's own backend from a page in the portal's
// frame, where a browser brings no cookie.
type Session struct {
	ClientID string    `json:"c"` // the application
	MemberID string    `json:"m"` // the portal
	UserID   int64     `json:"u"` // never 0
	Expires  time.Time `json:"e"`
}

const sessionFor = 10 * time.Minute

// ErrNoSession is the error of [Handler.Session]: answer 401, and let the page be
// opened again.
var ErrNoSession = errors.New("b24oauth/install: the request has no session, or one that has expired: it needs Authorization: Bearer with the Token of a Visit of the last ten minutes")

// Session returns who sends a request to the application's own backend, by the
// token of a [Visit] in its Authorization header. Any process of the application
// can read what another one has signed: the key is derived from the client secret.
// The error is [ErrNoSession].
func (h *Handler) Session(r *http.Request) (*Session, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	data, ok := h.unsigned("session", token)
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, ErrNoSession
	}
	var s Session
	if json.Unmarshal(data, &s) != nil || s.ClientID != h.Config.ClientID || s.UserID <= 0 || !time.Now().Before(s.Expires) {
		return nil, ErrNoSession
	}
	return &s, nil
}

// sign returns the token of a session that begins now.
func (h *Handler) sign(memberID string, user int64) string {
	data, err := json.Marshal(Session{h.Config.ClientID, memberID, user, time.Now().Add(sessionFor).UTC().Truncate(time.Second)})
	if err != nil {
		panic(err) // strings, a number and a time cannot fail
	}
	return h.signed("session", data)
}

// mac signs a text, with a key of its own for each purpose that all processes of the
// application can derive from the client secret.
func (h *Handler) mac(purpose, text string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(h.Config.ClientSecret), nil, "b24oauth/install "+purpose, sha256.Size)
	if err != nil {
		panic(err) // the length is one that it has
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
