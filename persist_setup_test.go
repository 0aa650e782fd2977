package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// wantKind checks that err is of that kind and of no other one that says who has
// to act, and that it has the Store's words.
func wantKind(t *testing.T, what string, err, kind error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s = %v; want it to say %q", what, err, words)
	}
	for _, k := range []error{b24oauth.ErrMisconfigured, b24oauth.ErrUnavailable, b24oauth.ErrReauthorize, b24oauth.ErrNoGrant} {
		if errors.Is(err, k) != (k == kind) {
			t.Errorf("%s = %v, which is %q: %t", what, err, k, errors.Is(err, k))
		}
	}
}

func TestFailureOfAStoreIsOfTheKindThatTheStoreSays(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		kind error
	}{
		{"that stays", fmt.Errorf("mystore: the table is missing (%w)", b24oauth.ErrMisconfigured), b24oauth.ErrMisconfigured},
		{"that stays, within another error", errors.Join(errors.New("two tries"), fmt.Errorf("mystore: the table is missing (%w)", b24oauth.ErrMisconfigured)), b24oauth.ErrMisconfigured},
		{"that passes", errors.New("mystore: the table is missing at present"), b24oauth.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const words = "the table is missing"
				store := newFaultyStore()
				p := newProgram(t, with(store, nil))
				<-time.After(2 * time.Hour)
				fail := func() {
					store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, c.err })
					store.onUpdate(func(context.Context, updateFunc) error { return c.err })
				}
				fail()
				_, err := p.source.Token()
				wantKind(t, "Token", err, c.kind, words)
				_, err = p.source.Grant(t.Context())
				wantKind(t, "Grant", err, c.kind, words)
				wantKind(t, "Save", p.config.Save(t.Context(), key, p.Install()), c.kind, words)
				wantKind(t, "Delete", p.config.Delete(t.Context(), key), c.kind, words)
				wantRequests(t, p, 0)

				store.onLoad(nil)
				store.onUpdate(nil)
				<-time.After(time.Hour)
				token(t, p.source)
			})
		})
	}
}

// A pair that a misconfigured Store does not take is not lost for that.
func TestPairThatAMisconfiguredStoreDoesNotTakeIsSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events := newFaultyStore(), new(eventLog)
		p := newProgram(t, with(store, events))
		<-time.After(2 * time.Hour)
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			return store.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if g, err := fn(ctx, g); g == nil || err != nil {
					return nil, err
				}
				return nil, fmt.Errorf("mystore: no right to save (%w)", b24oauth.ErrMisconfigured)
			})
		})
		next := token(t, p.source)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantKind(t, "Flush", p.config.Flush(ctx), b24oauth.ErrMisconfigured, "no right to save")
		events.mu.Lock()
		for _, e := range events.events {
			if e.Kind == b24oauth.EventSaveFailed {
				wantKind(t, "the event", e.Err, b24oauth.ErrMisconfigured, "no right to save")
			}
		}
		events.mu.Unlock()
		store.onUpdate(nil)
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken != next {
			t.Errorf("Flush = %v; want the pair stored", err)
		}
	})
}

func TestGuarantee8MisconfiguredStoreTellsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		g := stored(t, p)
		<-time.After(2 * time.Hour)
		store.onUpdate(func(context.Context, updateFunc) error {
			return fmt.Errorf("mystore: no right to SET token = '%s' (%w)", g.RefreshToken, b24oauth.ErrMisconfigured)
		})
		_, err := p.source.Token()
		wantKind(t, "Token", err, b24oauth.ErrMisconfigured, "no right to SET token")
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, g.RefreshToken) {
			t.Errorf("it tells a token: %s", text)
		}
	})
}

// lister is a Store whose Keys fail.
type lister struct {
	b24oauth.MemoryStore
	err error
}

func (l *lister) Keys(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", l.err) }
}

func TestKeysOfAMisconfiguredStoreSaySo(t *testing.T) {
	config := &b24oauth.Config{Store: &lister{err: fmt.Errorf("mystore: the table is missing (%w)", b24oauth.ErrMisconfigured)}}
	for _, err := range config.Keys(t.Context()) {
		wantKind(t, "Keys", err, b24oauth.ErrMisconfigured, "the table is missing")
	}
}

func TestDamagedValueIsMisconfigured(t *testing.T) {
	for name, value := range map[string]string{
		"empty": " ", "truncated": `{"version":1,"access_t`, "twice": `{"version":1,"access_token":"a"}{}`,
		"of a later release": `{"version":99,"access_token":"a"}`, "no grant": `{"version":1}`,
	} {
		if err := new(b24oauth.Grant).UnmarshalBinary([]byte(value)); !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("%s: %v; want ErrMisconfigured", name, err)
		}
	}
}

// logHandler notes the messages that it is given, and does what a test wants.
type logHandler struct {
	slog.Handler
	also  func()
	mu    sync.Mutex // guards lines
	lines []string
}

func newLogHandler() *logHandler { return &logHandler{Handler: slog.DiscardHandler} }

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	h.lines = append(h.lines, r.Level.String()+" "+r.Message)
	h.mu.Unlock()
	if h.also != nil {
		h.also()
	}
	return nil
}

// with returns how many lines have this in them.
func (h *logHandler) with(words string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.lines {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

const notSet = "WARN b24oauth: Config.Store is not set"

func TestForgottenStoreIsWarnedOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogHandler()
		p := newProgramWithoutGrant(t, func(c *b24oauth.Config) { c.Logger = slog.New(log) })
		for range p.config.Keys(t.Context()) {
			t.Error("there is a key")
		}
		if err := p.config.Flush(t.Context()); err != nil || log.with(notSet) != 0 {
			t.Errorf("%d warnings before anything is stored, and Flush = %v", log.with(notSet), err)
		}
		if err := p.config.Save(t.Context(), key, p.Install()); err != nil || log.with(notSet) != 1 {
			t.Errorf("%d warnings after Save = %v; want one", log.with(notSet), err)
		}
		<-time.After(2 * time.Hour)
		together(10, func(i int) { _, _ = p.config.TokenSource(fmt.Sprint(key, i%3)).Token() })
		token(t, p.source)
		if n := log.with(notSet); n != 1 {
			t.Errorf("%d warnings in the end; want one", n)
		}
		p.restart(func(c *b24oauth.Config) { c.Logger = slog.New(log) })
		together(10, func(i int) { _, _ = p.config.TokenSource(fmt.Sprint(key, i)).Token() })
		if n := log.with(notSet); n != 2 {
			t.Errorf("%d warnings with a second Config; want one more, at its first renewal", n)
		}
	})
}

func TestStoreThatWasChosenIsNotWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogHandler()
		p := newProgram(t, func(c *b24oauth.Config) { c.Logger, c.Store = slog.New(log), new(b24oauth.MemoryStore) })
		<-time.After(2 * time.Hour)
		token(t, p.source)
		if n := log.with("not set"); n != 0 {
			t.Errorf("%d warnings; want none", n)
		}
	})
}

// The program was restarted, and its user looks for the grant that he saved.
func TestMissingGrantIsExplainedByTheStoreThatWasForgotten(t *testing.T) {
	for name, test := range map[string]struct {
		store     b24oauth.Store
		explained bool
	}{"no Store": {nil, true}, "a MemoryStore": {new(b24oauth.MemoryStore), false}} {
		t.Run(name, func(t *testing.T) {
			p := newProgramWithoutGrant(t, with(test.store, nil))
			_, tokenErr := p.source.Token()
			_, grantErr := p.source.Grant(t.Context())
			_, endpointErr := p.source.Endpoint(t.Context())
			for what, err := range map[string]error{"Token": tokenErr, "Grant": grantErr, "Endpoint": endpointErr} {
				wantKind(t, what, err, b24oauth.ErrNoGrant, "Config.Save")
				for _, words := range []string{"Config.Store is not set", "in memory only", "earlier run"} {
					if strings.Contains(err.Error(), words) != test.explained {
						t.Errorf("%s = %v; want %q in it: %t", what, err, words, test.explained)
					}
				}
			}
		})
	}
}

// A warning that cannot be written is not to break what it warns of, and a
// Handler may be one that calls the portal.
func TestLoggerThatPanicsOrCallsBackBreaksNothing(t *testing.T) {
	for _, name := range []string{"panics", "calls back"} {
		t.Run(name, func(t *testing.T) {
			srv := b24test.NewMemoryServer()
			defer srv.Close()
			log, config, given := newLogHandler(), srv.Config(), new(attentive)
			config.Store, config.Logger = given, slog.New(log)
			given.also = func() { config.Logger.Warn("the Store has something to say") }
			depth := 0
			log.also = func() {
				if depth++; depth > 1 {
					return
				}
				if name == "panics" {
					panic("the disk of the log is full")
				}
				_, _ = config.TokenSource(key).Grant(t.Context())
			}
			if err := config.Save(t.Context(), key, srv.Install()); err != nil {
				t.Errorf("Save = %v", err)
			}
			if given.called != 1 {
				t.Errorf("UseLogger was called %d times; want once", given.called)
			}
		})
	}
}

// attentive is a Store that wants a Logger.
type attentive struct {
	b24oauth.MemoryStore
	also   func()
	mu     sync.Mutex // guards what follows
	called int
	logger *slog.Logger
}

func (a *attentive) UseLogger(l *slog.Logger) {
	a.mu.Lock()
	a.called++
	a.logger = l
	a.mu.Unlock()
	if a.also != nil {
		a.also()
	}
}

func TestStoreGetsTheLoggerOnceBeforeItsFirstUse(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, p *program){
		"Save":   func(t *testing.T, p *program) { _ = p.config.Save(t.Context(), key, p.Install()) },
		"Delete": func(t *testing.T, p *program) { _ = p.config.Delete(t.Context(), key) },
		"Token":  func(t *testing.T, p *program) { _, _ = p.source.Token() },
		"Grant":  func(t *testing.T, p *program) { _, _ = p.source.Grant(t.Context()) },
		"Flush":  func(t *testing.T, p *program) { _ = p.config.Flush(t.Context()) },
		"Keys": func(t *testing.T, p *program) {
			for range p.config.Keys(t.Context()) {
				t.Error("there is a key")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, logger := new(attentive), slog.New(newLogHandler())
			p := newProgramWithoutGrant(t, func(c *b24oauth.Config) { c.Store, c.Logger = store, logger })
			if text := fmt.Sprint(p.config); store.called != 0 || text == "" {
				t.Error("the Store is given the Logger by printing the Config")
			}
			for range 3 {
				use(t, p)
			}
			if store.called != 1 || store.logger != logger {
				t.Errorf("UseLogger was called %d times; want once, with the Config's Logger", store.called)
			}

			silent := new(attentive)
			p = newProgramWithoutGrant(t, with(silent, nil))
			if use(t, p); silent.called != 0 {
				t.Error("UseLogger was called without a Logger")
			}
		})
	}
}
