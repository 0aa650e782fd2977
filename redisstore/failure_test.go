package redisstore_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setuptest"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// calls are those of a Store, and of a Config on it, that ask Redis.
var calls = setuptest.Calls(theKey)

var (
	each    = slices.Collect(maps.Keys(calls))
	one     = []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}
	writing = []string{"Update", "Save", "Delete"}
)

func wantSetup(t *testing.T, c redis.UniversalClient, advice string, methods ...string) {
	t.Helper()
	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: newStore(c, "")}
	for _, method := range methods {
		err := calls[method](t.Context(), config)
		if !errors.Is(err, b24oauth.ErrMisconfigured) || errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s = %v; want ErrMisconfigured, and %q", method, err, advice)
		}
	}
}

func TestWhatStaysUntilSomebodyActsIsMisconfigured(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string                                   // of the server
		do      func(t *testing.T, s *server, name string) // to it, name being that of the grant's hash
		options func(o *redis.Options)                     // of the client
		client  func(s *server) redis.UniversalClient      // another one
		advice  string
		methods []string
	}{
		{name: "no password", do: func(_ *testing.T, s *server, _ string) { s.do("config", "set", "requirepass", "right") }, advice: "the password", methods: each},
		{name: "a wrong password", do: func(_ *testing.T, s *server, _ string) { s.do("config", "set", "requirepass", "right") }, options: func(o *redis.Options) { o.Password = "wrong" }, advice: "the password", methods: each},
		{name: "an unknown user", options: func(o *redis.Options) { o.Username, o.Password = "nobody", "any" }, advice: "the user", methods: each},
		{name: "no right to read", do: user("-hget"), options: asUser, advice: "ACL's user", methods: []string{"Load", "Token", "Grant", "Update", "Save", "Delete"}},
		{name: "no right to write", do: user("-hset"), options: asUser, advice: "ACL's user", methods: writing},
		{name: "no right to scripts", do: user("-@scripting"), options: asUser, advice: "ACL's user", methods: one},
		{name: "no right to scan", do: user("-scan"), options: asUser, advice: "ACL's user", methods: []string{"Keys"}},
		{name: "no right to the keys", do: user("resetkeys", "~another:*"), options: asUser, advice: "ACL's user", methods: one},
		{name: "something else under the name", do: func(_ *testing.T, s *server, name string) { s.do("del", name); s.do("set", name, "mine") }, advice: "Prefix", methods: one},
		{name: "a damaged grant", do: func(_ *testing.T, s *server, name string) { s.do("hset", name, "grant", "{") }, advice: "not usable", methods: one},
		{name: "a DB that is not there", options: func(o *redis.Options) { o.DB = 99 }, advice: "the DB", methods: each},
		{name: "no scripts", args: []string{"--rename-command", "EVALSHA", ""}, advice: "package's documentation", methods: one},
		{name: "no commands for the scripts", args: []string{"--rename-command", "PERSIST", ""}, advice: "package's documentation", methods: writing},
		{name: "no cluster", client: func(s *server) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.addr}})
		}, advice: "redis.NewClient", methods: one},
		{name: "a Ring", client: func(s *server) redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": s.addr}})
		}, advice: "redis.Ring", methods: one},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, c.args...)
			if c.args == nil {
				put(t, newStore(s.client(), ""), theKey, numbered(1))
			}
			if c.do != nil {
				c.do(t, s, nameOf(t, newStore(s.client(), ""), theKey))
			}
			o := &redis.Options{Addr: s.addr}
			if c.options != nil {
				c.options(o)
			}
			client := redis.UniversalClient(dial(t, o))
			if c.client != nil {
				client = c.client(s)
				t.Cleanup(func() { client.Close() })
			}
			wantSetup(t, client, c.advice, c.methods...)
		})
	}
}

func TestStoreWithoutAClientIsMisconfigured(t *testing.T) {
	wantSetup(t, nil, "no client", one...)
}

// user gives the user app all rights but these.
func user(but ...any) func(*testing.T, *server, string) {
	return func(_ *testing.T, s *server, _ string) {
		s.do(append([]any{"acl", "setuser", "app", "on", "nopass", "~*", "&*", "+@all"}, but...)...)
	}
}

func asUser(o *redis.Options) { o.Username, o.Password = "app", "any" }

func TestClientOfOneServerOnAClusterIsMisconfigured(t *testing.T) {
	cluster := startCluster(t)
	addr := cluster.Options().Addrs[0]
	var errs []error
	for _, key := range []string{"a", "b", "c", "d"} { // in slots of either
		_, err := newStore(dial(t, &redis.Options{Addr: addr}), "").Load(t.Context(), key)
		if !errors.Is(err, b24oauth.ErrNoGrant) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		t.Fatal("no key is on the other server")
	}
	for _, err := range errs {
		if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "NewClusterClient") {
			t.Errorf("Load = %v; want ErrMisconfigured that names the client to use", err)
		}
	}
}

func TestWhatMayPassIsNotMisconfigured(t *testing.T) {
	for name, do := range map[string]func(s *server){
		"a replica": func(s *server) {
			s.do("config", "set", "repl-diskless-load", "disabled")
			s.do("replicaof", "127.0.0.1", freePort(t))
		},
		"a full memory":         func(s *server) { s.do("config", "set", "maxmemory", "1") },
		"a server that is away": func(s *server) { s.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			do(s)
			client := dial(t, &redis.Options{Addr: s.addr, MaxRetries: -1})
			if err := newStore(client, "").Update(t.Context(), theKey, returning(numbered(1), nil)); err == nil || errors.Is(err, b24oauth.ErrMisconfigured) {
				t.Errorf("Update = %v; want an error that passes", err)
			}
		})
	}
}

// configOn returns a Config with that Logger on the Store.
func configOn(s *redisstore.Store, l *slog.Logger) *b24oauth.Config {
	return &b24oauth.Config{ClientID: "id", ClientSecret: "secret", Store: s, Logger: l}
}

func TestForgetfulServerIsWarnedOfByTheConfigsLogger(t *testing.T) {
	own := startServer(t)
	for name, ownLogger := range map[string]bool{"none of the Store's own": false, "one of the Store's own": true} {
		t.Run(name, func(t *testing.T) {
			var first, second, stores logged
			s := newStore(own.client(), "")
			if ownLogger {
				s.Logger = slog.New(slog.NewTextHandler(&stores, nil))
			}
			want, others := &first, []*logged{&second, &stores}
			if ownLogger {
				want, others = &stores, []*logged{&first, &second}
			}
			for _, out := range []*logged{&first, &second} {
				config := configOn(s, slog.New(slog.NewTextHandler(out, nil)))
				if err := config.Save(t.Context(), theKey, &b24oauth.Grant{RefreshToken: "r", ClientEndpoint: "https://example.bitrix24.com/rest/"}); err != nil {
					t.Fatal(err)
				}
				settle(t, s, theKey)
			}
			about := func(out *logged) (n int) {
				for _, line := range out.lines() {
					if strings.Contains(line, "level=WARN") && strings.Contains(line, "append-only file") {
						n++
					}
				}
				return n
			}
			eventually(t, func() bool { return about(want) == 1 }, "the warning")
			for _, out := range others {
				if n := about(out); n != 0 {
					t.Errorf("%d warnings in another log: %q", n, out.lines())
				}
			}
		})
	}
}

// panicking is the Handler of a log that cannot be written.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("no log") }

func TestLogThatCannotBeWrittenEndsNoProgram(t *testing.T) {
	s := newStore(startServer(t).client(), "")
	config := configOn(s, slog.New(panicking{slog.DiscardHandler}))
	for range 3 {
		if err := config.Save(t.Context(), theKey, &b24oauth.Grant{RefreshToken: "r", ClientEndpoint: "https://example.bitrix24.com/rest/"}); err != nil {
			t.Fatal(err)
		}
		settle(t, s, theKey)
	}
}
