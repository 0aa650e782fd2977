package b24oauth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/b24go/b24oauth/internal/redact"
)

// An EventKind says what happened to a grant.
type EventKind int

const (
	EventRenewed      EventKind = iota + 1 // a new pair was fetched
	EventAdopted                           // a newer grant was found in the Store
	EventRenewFailed                       // a renewal ended without a new pair
	EventSaveFailed                        // the Store did not take a new pair; it is used from memory
	EventReplayed                          // a request was repeated with a new token
	EventRenamed                           // the portal has a new address
	EventFreshRefused                      // a token was refused before any request got through with it, and is not renewed again so soon
)

var eventTexts = map[EventKind]struct {
	name  string
	level slog.Level
	text  string
}{
	EventRenewed:      {"renewed", slog.LevelInfo, "b24oauth: token renewed"},
	EventAdopted:      {"adopted", slog.LevelInfo, "b24oauth: newer grant adopted from the Store"},
	EventRenewFailed:  {"renew_failed", slog.LevelError, "b24oauth: token not renewed"},
	EventSaveFailed:   {"save_failed", slog.LevelError, "b24oauth: new token pair not saved yet; it is used from memory and saved as soon as the Store allows"},
	EventReplayed:     {"replayed", slog.LevelInfo, "b24oauth: request repeated with a new token"},
	EventRenamed:      {"renamed", slog.LevelWarn, "b24oauth: the portal has a new address"},
	EventFreshRefused: {"fresh_refused", slog.LevelWarn, "b24oauth: the portal refuses tokens that are new; its clock, or this machine's, may be wrong"},
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
	Code     string        // its error code
	Host     string        // the portal's new address
	Err      error         // why it failed; a *TokenError, or the Store's error
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
	add(e.Code != "", slog.String("code", e.Code))
	add(e.Host != "", slog.String("host", e.Host))
	if e.Err != nil {
		add(true, slog.String("error", e.Err.Error()))
	}
	return attrs
}

// emit logs the event and hands it to OnEvent. Neither the logger nor OnEvent
// can break the other, or the call or the renewal that the event comes from.
func (c *Config) emit(ctx context.Context, e Event) {
	if c.Logger != nil {
		c.survive(ctx, func() {
			t := eventTexts[e.Kind]
			level := t.level
			if te, ok := e.Err.(*TokenError); ok && te.keep401 {
				level = slog.LevelWarn // nothing failed, and nothing was tried
			}
			c.Logger.LogAttrs(ctx, level, t.text, e.attrs()...)
		})
	}
	if c.OnEvent != nil {
		c.survive(ctx, func() { c.OnEvent(ctx, e) })
	}
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
