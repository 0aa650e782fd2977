package redisstore_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
)

func TestAKilledServerKeepsThePair(t *testing.T) {
	own := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newStore(own.client(), "")
	put(t, s, theKey, numbered(1))
	err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		own.kill() // while the token is exchanged
		own.start()
		return numbered(2), nil
	})
	if err != nil {
		t.Fatalf("Update while the server was killed and came back = %v", err)
	}
	own.kill()
	own.start()
	wantNumber(t, s, theKey, 2)
	put(t, s, theKey, numbered(3))
	own.kill()
	own.start()
	wantNumber(t, newStore(own.client(), ""), theKey, 3)
}

// logged collects log lines.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(line)
}

func (l *logged) lines() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func TestAForgetfulServerIsWarnedOfOnce(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string // what the lines have to say
	}{
		"append-only file":                {[]string{"--appendonly", "yes"}, nil},
		"evicting what expires":           {[]string{"--appendonly", "yes", "--maxmemory-policy", "volatile-lru"}, nil},
		"no append-only file":             {nil, []string{"level=WARN appendonly"}},
		"no append-only file but dumps":   {[]string{"--save", "60 1"}, []string{"level=WARN appendonly"}},
		"evicting":                        {[]string{"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"}, []string{"level=WARN maxmemory-policy"}},
		"evicting, no append-only file":   {[]string{"--maxmemory-policy", "allkeys-random"}, []string{"level=WARN appendonly", "level=WARN maxmemory-policy"}},
		"settings that must not be asked": {[]string{"--rename-command", "CONFIG", ""}, []string{"level=DEBUG"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := startServer(t, c.args...).client()
			put(t, newStore(client, ""), theKey, numbered(0))
			var out logged
			s := newStore(client, "")
			s.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			for n := range int64(3) {
				wantNumber(t, s, theKey, n)
				put(t, s, theKey, numbered(n+1))
			}
			lines := out.lines()
			if len(lines) != len(c.want) {
				t.Fatalf("logged %q; want %d lines", lines, len(c.want))
			}
			for i, want := range c.want {
				for word := range strings.FieldsSeq(want) {
					if !strings.Contains(lines[i], word) {
						t.Errorf("line %d is %q; want %s in it", i, lines[i], word)
					}
				}
			}
		})
	}
}

func TestAProgramThatOnlyWritesIsWarnedToo(t *testing.T) {
	var out logged
	s := newStore(startServer(t).client(), "")
	s.Logger = slog.New(slog.NewTextHandler(&out, nil))
	put(t, s, theKey, numbered(1))
	eventually(t, func() bool { return len(out.lines()) == 1 }, "the warning of the append-only file")
}

func TestAFullServerRefusesTheLease(t *testing.T) {
	own := startServer(t)
	s := newStore(own.client(), "")
	put(t, s, theKey, numbered(1))
	own.do("config", "set", "maxmemory", "1")
	err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called although nothing can be saved")
		return nil, nil
	})
	if err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Update on a full server = %v; want its OOM", err)
	}
	wantNumber(t, s, theKey, 1)
}
