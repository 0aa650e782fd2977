package install

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/redact"
)

// What comes back from the code flow is the browser's word as well: a code of
// somebody else's portal can be put into it, and the user would work there without
// knowing. So it is taken only from the browser that was sent, for the portal it was
// sent to, once.

const (
	stateCookie = "b24oauth_state"
	stateFor    = 10 * time.Minute
)

// journey is what the browser keeps while it is at the portal, signed.
type journey struct {
	State   string    `json:"s"`
	Host    string    `json:"h"` // the portal's
	Expires time.Time `json:"e"`
}

// AuthorizeHandler sends a browser to a portal, for a user there to authorize the
// application: the first half of the code flow, for applications that are not
// opened in the portal's frame. portalOf returns the portal's host or URL, such as
// the form value that the user has typed; an empty one is answered with 400. The
// browser comes back to the address in the application's card, where
// [Handler.CallbackHandler] has to stand, under the same host: it is recognised by a
// cookie that lives for ten minutes.
func (h *Handler) AuthorizeHandler(portalOf func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.start()
		w.Header().Set("Cache-Control", "no-store")
		state := rand.Text()
		to, err := url.Parse(h.Config.AuthCodeURL(strings.TrimSpace(portalOf(r)), state))
		switch {
		case err != nil || to.Hostname() == "" || to.User != nil || !address.Secure(to):
			h.say(w, http.StatusBadRequest, "The request names no portal.")
			return
		case !h.AllowPrivate && address.IsPrivate(to):
			h.say(w, http.StatusBadRequest, "The portal is at a private address.")
			return
		}
		http.SetCookie(w, h.cookie(r, h.seal(journey{state, address.CanonicalHost(to), time.Now().Add(stateFor).UTC()}), stateFor))
		http.Redirect(w, r, to.String(), http.StatusSeeOther)
	})
}

// CallbackHandler takes the browser back that [Handler.AuthorizeHandler] has sent:
// it exchanges the code, within the 30 seconds that one lives and only if the Store
// takes what it will bring, and stores the grant under the portal's key if its user
// may install the application, as [Handler] says. done answers the request then;
// its error is nil, or why nothing was stored, for the user to see as little of it as
// done likes: [b24oauth.ErrUnavailable] and the like, or that the browser is not the
// one that was sent.
func (h *Handler) CallbackHandler(done func(w http.ResponseWriter, r *http.Request, key string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.start()
		w.Header().Set("Cache-Control", "no-store")
		http.SetCookie(w, h.cookie(r, "", -time.Second)) // once
		// A browser that goes away does not cost what its code has bought.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 25*time.Second)
		defer cancel()
		key, err := h.callback(ctx, r)
		if err != nil {
			h.log(ctx, "an authorization was not stored", r.URL.Query().Get("member_id"), err)
		}
		done(w, r, key, err)
	})
}

var errNotSent = errors.New("b24oauth/install: the browser was not sent to this portal by this application in the last ten minutes, or has come back already: begin anew")

func (h *Handler) callback(ctx context.Context, r *http.Request) (key string, _ error) {
	q := r.URL.Query()
	cookie, err := r.Cookie(stateCookie)
	if err != nil {
		return "", errNotSent
	}
	j, ok := h.unseal(cookie.Value)
	if !ok || !hmac.Equal([]byte(j.State), []byte(q.Get("state"))) {
		return "", errNotSent
	}
	if domain := q.Get("domain"); domain != "" && address.CanonicalHost(&url.URL{Scheme: "https", Host: domain}) != j.Host {
		return "", fmt.Errorf("%w; it comes from %s", errNotSent, redact.Host(domain))
	}
	if err := h.Config.CheckStore(ctx); err != nil {
		return "", fmt.Errorf("b24oauth/install: the Store takes nothing, so the code was not spent: %w", err)
	}
	g, err := h.Config.Exchange(ctx, q.Get("code"), q.Get("server_domain"))
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(g.ClientEndpoint); err != nil || address.CanonicalHost(u) != j.Host {
		return "", fmt.Errorf("%w; the code is of the portal %s", errNotSent, redact.Host(g.ClientEndpoint))
	}
	key = h.key(g.MemberID)
	have, err := h.Config.TokenSource(key).Grant(ctx)
	if err != nil && !errors.Is(err, b24oauth.ErrNoGrant) && !errors.Is(err, b24oauth.ErrReauthorize) {
		return "", err
	}
	user, err := h.askUserAfter(ctx, g)
	switch {
	case err != nil:
		return "", err
	case !user.mayInstall(have):
		return "", errNoInstaller
	}
	g.UserID = user.id
	return key, h.Config.Save(ctx, key, g)
}

// cookie returns the first-party cookie by which the browser is recognised.
func (h *Handler) cookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: stateCookie, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil || !address.IsLoopback((&url.URL{Host: r.Host}).Hostname()), // browsers keep it on loopback all the same
	}
}

func (h *Handler) seal(j journey) string {
	data, err := json.Marshal(j)
	if err != nil {
		panic(err) // strings and a time cannot fail
	}
	return h.signed("journey", data)
}

func (h *Handler) unseal(value string) (j journey, ok bool) {
	data, ok := h.unsigned("journey", value)
	return j, ok && json.Unmarshal(data, &j) == nil && time.Now().Before(j.Expires)
}

// signed returns data for a browser to keep, which cannot be changed there. purpose
// keeps what is signed for one from being taken for another.
func (h *Handler) signed(purpose string, data []byte) string {
	text := base64.RawURLEncoding.EncodeToString(data)
	return text + "." + base64.RawURLEncoding.EncodeToString(h.mac(purpose, text))
}

func (h *Handler) unsigned(purpose, value string) (data []byte, ok bool) {
	text, mac, _ := strings.Cut(value, ".")
	got, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || h.Config == nil || h.Config.ClientSecret == "" || !hmac.Equal(got, h.mac(purpose, text)) {
		return nil, false
	}
	data, err = base64.RawURLEncoding.DecodeString(text)
	return data, err == nil
}
