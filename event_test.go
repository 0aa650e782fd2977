package b24oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

func TestEventKindHasANameFitForALabel(t *testing.T) {
	for kind, want := range map[b24oauth.EventKind]string{
		b24oauth.EventRenewed:      "renewed",
		b24oauth.EventAdopted:      "adopted",
		b24oauth.EventRenewFailed:  "renew_failed",
		b24oauth.EventSaveFailed:   "save_failed",
		b24oauth.EventReplayed:     "replayed",
		b24oauth.EventRenamed:      "renamed",
		b24oauth.EventFreshRefused: "fresh_refused",
		0:                          "EventKind(0)",
		99:                         "EventKind(99)",
	} {
		if got := kind.String(); got != want {
			t.Errorf("EventKind %d is %q, want %q", int(kind), got, want)
		}
	}
}

// logged is how a text handler writes v, without time and level.
func logged(v any) string {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("", "e", v)
	return strings.TrimSpace(b.String())
}

func TestEventIsLoggedWithTheFieldsItHas(t *testing.T) {
	full := b24oauth.Event{
		Kind: b24oauth.EventRenewFailed, Key: key, Token: "1234abcd", Duration: 2 * time.Second, Attempts: 3,
		Code: "invalid_grant", Host: "new.bitrix24.com", Err: errors.New("reason"),
	}
	for _, test := range []struct {
		v    any
		want string
	}{
		{b24oauth.Event{Kind: b24oauth.EventReplayed, Key: key}, "e.key=portal e.kind=replayed"},
		{full, "e.key=portal e.token=1234abcd e.duration=2s e.attempts=3 e.code=invalid_grant e.host=new.bitrix24.com e.error=reason e.kind=renew_failed"},
		{&full, "e.key=portal e.token=1234abcd e.duration=2s e.attempts=3 e.code=invalid_grant e.host=new.bitrix24.com e.error=reason e.kind=renew_failed"},
	} {
		if got := logged(test.v); got != test.want {
			t.Errorf("logged:\n got %s\nwant %s", got, test.want)
		}
	}
}

func TestRenewalIsLoggedAndToldWithTheSameFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var events []b24oauth.Event
		p := newProgram(t, func(c *b24oauth.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { events = append(events, e) }
		})
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, time.Second)
		if _, err := p.source.Token(); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		p.KillGrants()
		_, err := p.source.Token()
		synctest.Wait()
		if len(events) != 2 {
			t.Fatalf("events %v, want two", events)
		}
		done, failed := events[0], events[1]
		if done.Kind != b24oauth.EventRenewed || done.Key != key || len(done.Token) != 8 || done.Duration != time.Second || done.Attempts != 1 || done.Err != nil {
			t.Errorf("event %+v", done)
		}
		if failed.Kind != b24oauth.EventRenewFailed || failed.Code != "invalid_grant" || failed.Err != err || failed.Attempts != 1 {
			t.Errorf("event %+v, error %v", failed, err)
		}
		for _, want := range []string{
			`level=INFO msg="b24oauth: token renewed" key=portal token=` + done.Token + " duration=1s attempts=1\n",
			`level=ERROR msg="b24oauth: token not renewed" key=portal`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, log.String())
			}
		}
	})
}

// panicking is a slog.Handler that does.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("secret") }

func TestPanicOfOnEventOrLoggerBreaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log bytes.Buffer
		var told int
		for name, change := range map[string]func(*b24oauth.Config){
			"OnEvent": func(c *b24oauth.Config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
				c.OnEvent = func(context.Context, b24oauth.Event) { panic("secret") }
			},
			"OnEvent without a Logger": func(c *b24oauth.Config) {
				c.OnEvent = func(context.Context, b24oauth.Event) { panic("secret") }
			},
			"Logger": func(c *b24oauth.Config) {
				c.Logger = slog.New(panicking{slog.DiscardHandler})
				c.OnEvent = func(context.Context, b24oauth.Event) {
					mu.Lock()
					defer mu.Unlock()
					told++
				}
			},
		} {
			c := endpointConfig(answers(200, `{"access_token":"new-access","refresh_token":"new-refresh"}`), change)
			if _, err := renewed(t, c, spent()); err != nil {
				t.Errorf("%s panics: %v", name, err)
			}
			synctest.Wait()
		}
		if text := log.String(); !strings.Contains(text, "OnEvent or Logger panicked") || !strings.Contains(text, "a value of type string") || strings.Contains(text, "secret") {
			t.Errorf("log %s", text)
		}
		if told != 1 {
			t.Errorf("OnEvent was told %d events after the Logger's panic, want 1", told)
		}
	})
}

func TestRuntimeErrorInOnEventIsLoggedInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := endpointConfig(answers(200, `{"access_token":"new-access","refresh_token":"new-refresh"}`), func(c *b24oauth.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { _ = e.Attempts / len(e.Host) }
		})
		if _, err := renewed(t, c, spent()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if want := fmt.Sprintf("panic=%q", "runtime error: integer divide by zero"); !strings.Contains(log.String(), want) {
			t.Errorf("log %s lacks %s", log.String(), want)
		}
	})
}
