package install

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

// Sender is who an event is from, as far as that is proven.
type Sender struct {
	// Key is the key of the portal's grant.
	Key string

	// UserID is the user whose access token came with the event, by the word of the
	// authorization server. 0: there was none, and the portal's application token,
	// which every user of the portal can read, is all that vouches for the event.
	// In either case a user of the portal may have made it up, Data included.
	UserID int64
}

// senders remembers, by the fingerprint of an access token, whose it is.
type senders map[[sha256.Size]byte]sender

type sender struct {
	user  int64
	until time.Time
}

const (
	rememberedFor  = 5 * time.Minute
	mostRemembered = 1024
)

var errUnvouched = errors.New("b24oauth/install: the event has neither an access token nor the application token that is stored")

// handOn answers an event that brings no pair of the application's and has it
// looked at afterwards.
func (h *Handler) handOn(w http.ResponseWriter, r *http.Request, e *Event) {
	if e.Name != uninstalled && h.OnEvent == nil {
		h.say(w, http.StatusOK, "OK")
		return
	}
	select {
	case h.events <- struct{}{}:
	default:
		h.busy(w, r, e, errFull)
		return
	}
	begun := h.detach(func(ctx context.Context) {
		defer func() { <-h.events }()
		err := guarded(func() error {
			from, err := h.sender(ctx, e)
			switch {
			case err != nil:
				return err
			case e.Name == uninstalled:
				if err := h.uninstall(ctx, from.Key); err != nil {
					return fmt.Errorf("b24oauth/install: whether the application was removed is not known: %w", err)
				}
			default:
				h.OnEvent(ctx, e, from)
			}
			return nil
		})
		if err != nil {
			h.log(ctx, "the event "+redact.Shorten(e.Name)+" was dropped", e.Grant.MemberID, err)
		}
	})
	if !begun {
		<-h.events
		h.busy(w, r, e, nil)
		return
	}
	h.say(w, http.StatusOK, "OK")
}

// sender says who an event is from.
func (h *Handler) sender(ctx context.Context, e *Event) (Sender, error) {
	from := Sender{Key: h.key(e.Grant.MemberID)}
	if e.Grant.AccessToken != "" {
		var err error
		from.UserID, err = h.userOf(ctx, e.Grant)
		return from, err
	}
	have, err := h.Config.TokenSource(from.Key).Grant(ctx)
	if err != nil {
		return from, err
	}
	got, want := []byte(e.Grant.ApplicationToken), []byte(have.ApplicationToken)
	if len(want) == 0 || subtle.ConstantTimeCompare(got, want) != 1 {
		return from, errUnvouched
	}
	return from, nil
}

// userOf returns whose an event's access token is.
func (h *Handler) userOf(ctx context.Context, g *b24oauth.Grant) (int64, error) {
	id := sha256.Sum256([]byte(g.MemberID + "\x00" + g.ClientEndpoint + "\x00" + g.AccessToken))
	now := time.Now()
	h.mu.Lock()
	known, ok := h.senders[id]
	h.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.user, nil
	}
	info, err := h.Config.Confirm(ctx, g)
	if err != nil {
		return 0, err
	}
	user := info.UserID
	if user == 0 {
		is, err := h.askUser(ctx, info.ClientEndpoint, g.AccessToken)
		if err != nil {
			return 0, err
		}
		user = is.id
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.senders == nil || len(h.senders) >= mostRemembered {
		h.senders = make(senders)
	}
	h.senders[id] = sender{user, now.Add(rememberedFor)}
	return user, nil
}

const uninstalled = "ONAPPUNINSTALL"

// uninstall deletes the grant if the application was removed, by the word of the
// authorization server: the event has nothing but the application token to vouch
// for it, which users know.
func (h *Handler) uninstall(ctx context.Context, key string) error {
	source := h.Config.TokenSource(key)
	was, err := source.Grant(ctx)
	if err == nil {
		_, err = source.TokenContext(ctx)
	}
	if err == nil {
		var g *b24oauth.Grant
		if g, err = source.Grant(ctx); err == nil {
			_, err = h.Config.Confirm(ctx, g)
		}
	}
	te, ok := errors.AsType[*b24oauth.TokenError](err)
	switch {
	case ok && te.Code == "NOT_INSTALLED":
		// The answer may have taken long, and says nothing of a grant that was
		// installed meanwhile.
		if is, err := source.Grant(ctx); was != nil && err == nil && root(is) != root(was) {
			return nil
		}
		return h.Config.Delete(ctx, key)
	case errors.Is(err, b24oauth.ErrReauthorize), errors.Is(err, b24oauth.ErrNoGrant):
		return nil // a refused refresh token is marked so
	}
	return err
}

// root identifies the authorization that a grant comes from.
func root(g *b24oauth.Grant) uint64 {
	if g.Lineage.Root != 0 {
		return g.Lineage.Root
	}
	return renew.Fingerprint(g.RefreshToken)
}
