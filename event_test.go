package b24oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestEventKindHasANameFitForALabel(t *testing.T) {
	for kind, want := range map[b24oauth.EventKind]string{
		b24oauth.EventRenewed:      "renewed",
		b24oauth.EventAdopted:      "adopted",
		b24oauth.EventRenewFailed:  "renew_failed",
		b24oauth.EventSaveFailed:   "save_failed",
		b24oauth.EventReplayed:     "replayed",
		b24oauth.EventRenamed:      "renamed",
		b24oauth.EventRefusedAgain: "refused_again",
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

// A program that ends with a failure ends with its cause in the log.
func TestEventsAreToldBeforeCallersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		p := newProgram(t, func(c *b24oauth.Config) {
			c.OnEvent = func(context.Context, b24oauth.Event) {
				<-time.After(time.Second)
				told.Add(1)
			}
		})
		for want := range int32(3) {
			<-time.After(2 * time.Hour)
			if want == 2 {
				p.KillGrants()
			}
			p.DelayTokens(1, time.Second) // all wait for one renewal
			together(10, func(int) {
				if _, err := p.source.Token(); (err != nil) != (want == 2) || told.Load() != want+1 {
					t.Errorf("error %v after %d events, want %d", err, told.Load(), want+1)
				}
			})
		}
	})
}

func TestFailureIsToldWithTheVeryErrorThatCallersGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []b24oauth.Event
		store := newFaultyStore()
		p := newProgram(t, with(store, nil), func(c *b24oauth.Config) {
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { events = append(events, e) }
		})
		<-time.After(2 * time.Hour)
		store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, errDown })
		_, ofStore := p.source.Token()
		store.onLoad(nil)
		<-time.After(2 * time.Minute)
		p.FailTokens(3, b24test.Answer{Status: 500})
		_, ofServer := p.source.Token()
		synctest.Wait()
		if len(events) != 2 || events[0].Err != ofStore || events[1].Err != ofServer || !errors.Is(ofStore, errDown) {
			t.Errorf("events %+v; want those of %v and %v", events, ofStore, ofServer)
		}
	})
}

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
				c.Logger = slog.New(breakingHandler{func() { panic("secret") }})
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

// whateverItDoes are the ways in which a user's code can leave a job.
var whateverItDoes = []struct {
	name string
	do   func()
}{
	{"a panic", func() { panic("with a secret in it") }},
	{"a runtime error", func() { var none []int; _ = none[len(none)] }},
	{"runtime.Goexit", runtime.Goexit},
}

func TestOnEventAndLoggerCannotBreakAJob(t *testing.T) {
	for _, way := range whateverItDoes {
		for _, tt := range []struct {
			name  string
			spoil func(*b24oauth.Config)
		}{
			{"OnEvent", func(c *b24oauth.Config) {
				c.OnEvent = func(context.Context, b24oauth.Event) { way.do() }
			}},
			{"Logger", func(c *b24oauth.Config) { c.Logger = slog.New(breakingHandler{way.do}) }},
			{"both", func(c *b24oauth.Config) {
				c.OnEvent = func(context.Context, b24oauth.Event) { way.do() }
				c.Logger = slog.New(breakingHandler{way.do})
			}},
		} {
			t.Run(way.name+" in "+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := newFaultyStore()
					p := newProgram(t, with(store, nil), tt.spoil)
					<-time.After(2 * time.Hour)
					start := time.Now()
					next := token(t, p.source)
					if time.Since(start) != 0 || stored(t, p).AccessToken != next {
						t.Errorf("not the stored token at once, but after %v", time.Since(start))
					}
					store.onLoad(func(context.Context) (*b24oauth.Grant, error) { panic("Store, too") })
					<-time.After(2 * time.Hour)
					wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
					store.onLoad(nil)
					<-time.After(2 * time.Minute)
					token(t, p.source)
				})
			})
		}
	}
}

// breakingHandler is a slog.Handler that does what handlers must not.
type breakingHandler struct{ do func() }

func (breakingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h breakingHandler) Handle(context.Context, slog.Record) error { h.do(); return nil }

func (h breakingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h breakingHandler) WithGroup(string) slog.Handler { return h }

func TestOnEventMayUseTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *program
		p = newProgram(t, func(c *b24oauth.Config) {
			c.OnEvent = func(ctx context.Context, e b24oauth.Event) {
				if e.Kind == b24oauth.EventRenewed {
					token(t, p.source)
					if err := p.config.Flush(ctx); err != nil {
						t.Error(err)
					}
				}
			}
		})
		<-time.After(2 * time.Hour)
		token(t, p.source)
		wantRefreshes(t, p, 1)
	})
}
