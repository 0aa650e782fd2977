package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/redact"
)

// Handler serves all addresses of an application that Bitrix24 calls: its pages in
// the portal's frame, the install page among them, its events, its robots and
// activities. It tells them apart by what they bring, so one Handler can stand at
// one address or at several. The zero value with a Config works:
//
//	http.Handle("/bitrix", &install.Handler{Config: config})
//
// Nobody vouches for what arrives. So a pair of tokens is stored only if the
// authorization server says that its access token was issued to this application
// for this portal ([b24oauth.Config.Confirm]), if the portal says that its user is
// an administrator or the one whose grant is stored, before and after its refresh
// token was exchanged ([b24oauth.Config.Redeem]), and if no working grant is
// stored: in the place of one comes only the pair of an installation, by its event
// or while the server says that it is not finished. Pairs of robots, bots and
// other events never come into the Store.
//
// What brings no proof is answered 403 (a page) or 200 (an event) without detail,
// and dropped with a warning in Config.Logger; no server is asked but the trusted
// one. Events are answered as soon as what they bring is in the Store, and proven
// afterwards; after a restart, [Handler.Resume] goes on with that.
//
// Fill it in once, share it by pointer, and do not change it after its first use;
// all methods may then be called concurrently. Call [Handler.Close] before the
// program ends.
type Handler struct {
	// Config is the application. It is required, and its Store is where grants,
	// and what is not proven yet, are kept.
	Config *b24oauth.Config

	// Key returns the key of a portal's grant. Nil: [Key] of the application and
	// the portal.
	Key func(clientID, memberID string) string

	// KeyOfUser returns the key of a user's own grant, for programs that act in the
	// name of the user who visits them: the pair that a page brings is proven and
	// stored there, unless a working grant of the user is. It must return no key that
	// Key returns. Nil: no user's grant is stored.
	KeyOfUser func(clientID, memberID string, userID int64) string

	// AllowPrivate takes portals at a private address too, as [Reader] says, and
	// connects to such an address.
	AllowPrivate bool

	// Installed is called after the grant of an installation was stored under key
	// and before its page is shown: each version of an application has to bind its
	// events and placements anew. It may be called more than once for one
	// installation. Its error is logged, and the page says that the installation
	// failed. Nil: nothing is to be done.
	Installed func(ctx context.Context, key string, info *b24oauth.AppInfo) error

	// Page answers the request for a page of the application, once its visitor is
	// proven. The headers that let the portal show it in a frame are set; the
	// browser brings no cookie there, so the page calls its own backend with
	// [Visit.Token]. Nil: a page that says that the application is installed.
	Page func(w http.ResponseWriter, r *http.Request, v *Visit)

	// OnEvent gets every other event, and the calls of robots and activities. It
	// is called after Bitrix24 got its answer, with a context that ends with
	// Close. Nil: they are dropped.
	OnEvent func(ctx context.Context, e *Event, from Sender)

	// SystemUser accepts the grant of a system user, which ONAPPUSERREADY brings and
	// by which background work outlives the employee who installed the
	// application: that a user is one nobody but the portal's owner can say. The
	// pair is exchanged by then and lost if it is not accepted. Nil: none is.
	SystemUser func(ctx context.Context, renewed *b24oauth.Grant) error

	// ScriptURL is where pages get Bitrix24's BX24 from. Empty:
	// https://api.bitrix24.com/api/v1/.
	ScriptURL string

	// PortalTransport sends the question who a user is to a portal. Nil: one that
	// uses no proxy and connects to public addresses only, unless AllowPrivate is
	// set.
	PortalTransport http.RoundTripper

	init   sync.Once
	client *http.Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	memory b24oauth.MemoryStore // for what is pending if Config has no Store
	pages  chan struct{}        // bounds the pages that are worked on,
	events chan struct{}        // the events,
	keeps  chan struct{}        // and those that look for a slot in the Store

	mu      sync.Mutex // guards what follows
	closed  bool
	working sync.WaitGroup
	proving map[int]string // what this process works on in the pending slots, by its fence
	senders senders
}

const (
	pageBudget   = 8 * time.Second // for what a page waits for
	pagesAtOnce  = 128
	eventsAtOnce = 32
	keepsAtOnce  = 8
	contentType  = "application/x-www-form-urlencoded"
)

// Key returns the key under which a Handler keeps a portal's grant, unless its Key
// says otherwise. It names the application too: one that is deleted in Bitrix24
// and added anew has another ClientID, and does not find its old grant in its way.
func Key(clientID, memberID string) string { return clientID + "/" + memberID }

func (h *Handler) start() {
	h.init.Do(func() {
		h.ctx, h.cancel = context.WithCancel(context.Background())
		h.pages, h.events, h.keeps = make(chan struct{}, pagesAtOnce), make(chan struct{}, eventsAtOnce), make(chan struct{}, keepsAtOnce)
		h.proving = make(map[int]string)
		h.client = portalClient(h.PortalTransport, h.AllowPrivate)
	})
}

// Close ends what is being worked on, for the program to end: it waits for what is
// in flight, until the pairs that are exchanged already are in the Store, and lets
// what is pending be, for [Handler.Resume] after the next start.
// Requests that come later get 503. The error is ctx's if that ends first.
func (h *Handler) Close(ctx context.Context) error {
	h.start()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	done := make(chan struct{})
	go func() {
		h.working.Wait()
		close(done)
	}()
	select {
	case <-done:
		if h.Config == nil {
			return nil
		}
		// An exchange outlives whoever began it, and no Resume can repeat it.
		return h.Config.Flush(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// detach runs work after the answer to a request, unless the Handler is closed.
func (h *Handler) detach(work func(context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.working.Go(func() { work(h.ctx) })
	return true
}

// guarded calls what may call a function of the program's, after the answer to a
// request: its panic there would end the program, and again after each restart, and
// users of a portal choose what it gets. As in net/http, it ends that request alone.
func guarded(work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("b24oauth/install: a function of the program panicked: %s\n%s", redact.Panic(v), debug.Stack())
		}
	}()
	return work()
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.start()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet, http.MethodHead: // Bitrix24 looks whether the address answers
		h.say(w, http.StatusOK, "This address is for Bitrix24.")
		return
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		h.say(w, http.StatusMethodNotAllowed, "Bitrix24 sends POST.")
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != contentType {
		h.say(w, http.StatusUnsupportedMediaType, "Bitrix24 sends "+contentType+".")
		return
	}
	if h.Config == nil {
		h.say(w, http.StatusInternalServerError, "install.Handler has no Config.")
		return
	}
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed { // nobody waits for what a page would begin now
		w.Header().Set("Retry-After", "5")
		h.say(w, http.StatusServiceUnavailable, "Please try again in a moment.")
		return
	}
	f, err := readForm(r, maxEvent)
	switch {
	case err != nil:
		h.say(w, http.StatusBadRequest, err.Error())
	case f.has("event"), f.has("auth[member_id]"):
		h.event(w, r, f)
	case !f.has("AUTH_ID"):
		h.say(w, http.StatusBadRequest, "The request has neither the field AUTH_ID of a page nor the field event.")
	case f.size > maxGrant:
		h.say(w, http.StatusRequestEntityTooLarge, "The request is too large for a page.")
	default:
		h.page(w, r, f)
	}
}

func (h *Handler) say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}

// refuse answers what is not proven, and logs why.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, memberID string, err error) {
	h.log(r.Context(), "a page was refused", memberID, err)
	switch {
	case errors.Is(err, errNoInstaller):
		h.say(w, http.StatusForbidden, "The application is not installed: an administrator of the portal has to open it once.")
	case passes(err):
		w.Header().Set("Retry-After", "5")
		h.say(w, http.StatusServiceUnavailable, "Please try again in a moment.")
	default:
		h.say(w, http.StatusForbidden, "Please open the application in Bitrix24 again.")
	}
}

// log tells what was refused. Errors of this module tell no secret.
func (h *Handler) log(ctx context.Context, what, memberID string, err error) {
	if h.Config.Logger == nil {
		return
	}
	level := slog.LevelWarn
	if passes(err) {
		level = slog.LevelInfo
	}
	h.Config.Logger.Log(ctx, level, "b24oauth/install: "+what, slog.String("member_id", redact.Shorten(memberID)), slog.Any("error", err))
}

// passes reports whether an error passes by itself.
func passes(err error) bool {
	return errors.Is(err, b24oauth.ErrUnavailable) || errors.Is(err, errNoWord) || errors.Is(err, errFull) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// key returns the key of a portal's grant.
func (h *Handler) key(memberID string) string {
	if h.Key != nil {
		return h.Key(h.Config.ClientID, memberID)
	}
	return Key(h.Config.ClientID, memberID)
}
