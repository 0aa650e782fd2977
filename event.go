package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

// An EventKind says what happened to a grant.
type EventKind int

const (
	EventRenewed       EventKind = iota + 1 // a new pair was fetched
	EventAdopted                            // a newer grant was found in the Store
	EventRenewFailed                        // a renewal ended without a new pair
	EventSaveFailed                         // the Store did not take a new pair; it is used from memory
	EventReplayed                           // a request was repeated with a new token
	EventRenamed                            // the portal has a new address
	EventRefusedAgain                       // refused or redirected so soon after a renewal for that that there is no other one yet
	EventTokenWithheld                      // no token in a request: almost the portal's address, or a field named token
)

var eventTexts = map[EventKind]struct {
	name  string
	level slog.Level
	text  string
}{
	EventRenewed:       {"renewed", slog.LevelInfo, "b24oauth: token renewed"},
	EventAdopted:       {"adopted", slog.LevelInfo, "b24oauth: newer grant adopted from the Store"},
	EventRenewFailed:   {"renew_failed", slog.LevelError, "b24oauth: token not renewed"},
	EventSaveFailed:    {"save_failed", slog.LevelError, "b24oauth: new token pair not saved yet; it is used from memory and saved as soon as the Store allows"},
	EventReplayed:      {"replayed", slog.LevelDebug, "b24oauth: request repeated with a new token"},
	EventRenamed:       {"renamed", slog.LevelWarn, "b24oauth: the portal has a new address"},
	EventRefusedAgain:  {"refused_again", slog.LevelWarn, "b24oauth: the portal goes on refusing renewed tokens, and gets no other one for a while; its clock may be wrong, or the request has a stale auth of its own"},
	EventTokenWithheld: {"token_withheld", slog.LevelDebug, "b24oauth: request sent without the token; the portal will probably refuse it"},
}

// String returns the kind's name in lower case, fit for a metric's label.
func (k EventKind) String() string {
	if t, ok := eventTexts[k]; ok {
		return t.name
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// An Event tells [Config.OnEvent] what happened to a grant. It contains no
// secret. Fields that do not apply to the kind are zero.
type Event struct {
	Kind     EventKind
	Key      string        // the grant's key
	Token    string        // the access token in question: the first 8 hex digits of its SHA-256
	Duration time.Duration // of the renewal
	Attempts int           // requests that the renewal sent to the authorization server
	Refusals int           // EventRenewed: refused requests since the last renewal
	Code     string        // its error code
	Host     string        // the portal's new address, or that of the request without a token
	Err      error         // why it failed, or why there was no token in it; a *TokenError
}

// LogValue implements [slog.LogValuer].
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(append(e.attrs(), slog.String("kind", e.Kind.String()))...)
}

func (e *Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("key", e.Key)}
	add := func(set bool, a slog.Attr) {
		if set {
			attrs = append(attrs, a)
		}
	}
	add(e.Token != "", slog.String("token", e.Token))
	add(e.Duration != 0, slog.Duration("duration", e.Duration))
	add(e.Attempts != 0, slog.Int("attempts", e.Attempts))
	add(e.Refusals != 0, slog.Int("refusals", e.Refusals))
	add(e.Code != "", slog.String("code", e.Code))
	add(e.Host != "", slog.String("host", e.Host))
	if e.Err != nil {
		add(true, slog.String("error", e.Err.Error()))
	}
	return attrs
}

// emit logs the event at its kind's level and hands it to OnEvent.
func (c *Config) emit(ctx context.Context, e Event) {
	c.emitAt(ctx, eventTexts[e.Kind].level, e)
}

// emitAt is emit at a level. Neither the logger nor OnEvent can break the
// other, or the call or the renewal that the event comes from.
func (c *Config) emitAt(ctx context.Context, level slog.Level, e Event) {
	if c.Logger != nil {
		c.survive(ctx, func() { c.Logger.LogAttrs(ctx, level, eventTexts[e.Kind].text, e.attrs()...) })
	}
	if c.OnEvent != nil {
		c.survive(ctx, func() { c.OnEvent(ctx, e) })
	}
}

// misses is what a request's address has of its own, by how it misses the portal.
// An address in the clear is an error, and another host's is usual.
var misses = map[address.Miss]string{
	address.OtherScheme:  "scheme",
	address.OtherPort:    "port",
	address.OtherZone:    "Bitrix24 domain",
	address.OtherWriting: "spelling",
}

// tellMiss tells why a request gets no token that seems meant for the portal.
func (s *TokenSource) tellMiss(req *http.Request, g *heldGrant) {
	miss := address.Near(req.URL, g.portal(), g.formerHosts())
	if what, ok := misses[miss]; ok {
		s.tellWithheld(req, configError("the grant's portal is %s, and the request goes to %s with another %s: the token goes to the portal alone. Correct the request's address, or save a grant of that portal", g.portal(), redact.Host(req.URL.Scheme+"://"+req.URL.Host), what))
	}
}

// tellTokenField tells that a method's own field named token keeps the access
// token from it: such a URL is a signed link, whose signature auth would break.
func (s *TokenSource) tellTokenField(req *http.Request) {
	if !address.HasPlainToken(req.URL, address.RestPath) {
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), renew.Patience(req.Context()))
	defer cancel()
	if c, err := s.known(ctx); err == nil && c.Grant.isPortal(req.URL) {
		s.tellWithheld(req, configError("the request has a field token in its query, as signed links have, to which nothing is added: send the field in a form or JSON body"))
	}
}

func (s *TokenSource) tellWithheld(req *http.Request, why *TokenError) {
	s.cfg.emit(req.Context(), Event{Kind: EventTokenWithheld, Key: s.key, Host: req.URL.Host, Err: why.withKey(s.key)})
}

// tellHidden tells that a Transport's source is something around a *TokenSource,
// such as oauth2.ReuseTokenSource: Transport takes it for one that only supplies
// tokens.
func tellHidden(source oauth2.TokenSource, token *oauth2.Token) {
	from, _ := token.Extra(originKey).(origin)
	s := from.source.Value()
	if s == nil || s.cfg.Logger == nil || s.toldHidden.Swap(true) {
		return
	}
	s.cfg.survive(context.Background(), func() {
		s.cfg.Logger.Warn("b24oauth: a refused token is not renewed, nor its request repeated, as something stands around the *TokenSource: put the *TokenSource itself into Transport.Source",
			slog.String("key", s.key), slog.String("source", fmt.Sprintf("%T", source)))
	})
}

// survive calls the user's code and logs its panic, if it can.
func (c *Config) survive(ctx context.Context, call func()) {
	defer func() {
		if v := recover(); v != nil && c.Logger != nil {
			defer func() { _ = recover() }() // the Logger itself may be what panics
			c.Logger.LogAttrs(ctx, slog.LevelError, "b24oauth: OnEvent or Logger panicked", slog.String("panic", redact.Panic(v)))
		}
	}()
	call()
}

// Report implements [renew.Outside].
func (o *outside) Report(e renew.Event) {
	s, ctx := (*TokenSource)(o), context.Background()
	out := Event{Key: o.key, Token: tokenLabel(e.Access), Duration: e.Duration, Attempts: e.Attempts, Refusals: e.Refusals}
	if e.Failure != nil {
		te := s.tokenError(e.Failure)
		out.Err, out.Code = te, te.Code
	}
	switch e.Kind {
	case renew.Renewed:
		out.Kind = EventRenewed
	case renew.Adopted:
		out.Kind = EventAdopted
	case renew.Moved:
		out.Kind, out.Host = EventRenamed, e.Home
	case renew.NotSaved:
		out.Kind = EventSaveFailed
	case renew.NotRenewed:
		out.Kind = EventRenewFailed
		switch {
		case e.Failure.Class == renew.RefusedAgain:
			out.Kind = EventRefusedAgain
		case e.Failure.Declined():
			s.cfg.emitAt(ctx, slog.LevelWarn, out) // nothing failed, and nothing was tried
			return
		}
	case renew.Broken:
		o.logPanic(e.Failure)
		return
	}
	o.cfg.emit(ctx, out)
}

// logPanic logs where the Store or a transport panicked, which no Event reports.
func (o *outside) logPanic(f *renew.Failure) {
	p, ok := errors.AsType[*renew.PanicError](f.Err)
	if !ok || o.cfg.Logger == nil {
		return
	}
	o.cfg.survive(context.Background(), func() {
		o.cfg.Logger.Error("b24oauth: Store panicked", slog.String("key", o.key), slog.String("panic", redact.Panic(p.Value)), slog.String("stack", string(p.Stack)))
	})
}
