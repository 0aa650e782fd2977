package redisstore

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const checkBudget = 2 * time.Second

// UseLogger makes l the Store's Logger, unless it has one. A [b24oauth.Config]
// calls it with its own.
func (s *Store) UseLogger(l *slog.Logger) { s.used.CompareAndSwap(nil, l) }

func (s *Store) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return s.used.Load()
}

// log logs a line, if there is a Logger. Its panic would end the program: most
// lines are written by goroutines of the Store's own.
func (s *Store) log(level slog.Level, text string, attrs ...slog.Attr) {
	if l := s.logger(); l != nil {
		defer func() { _ = recover() }()
		l.LogAttrs(context.Background(), level, text, attrs...)
	}
}

// checkServer warns, once, if Redis is set up to forget grants. Where the
// settings may not be read, as with many a hosting provider, it says nothing
// above the level of debugging.
func (s *Store) checkServer(ctx context.Context) {
	if s.logger() == nil || !s.checked.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkBudget)
	defer cancel()
	settings, err := bounded(ctx, func() (map[string]string, error) { return s.forgetful(ctx) })
	if err != nil {
		s.log(slog.LevelDebug, "b24oauth/redisstore: the server's persistence is not known", slog.Any("error", err))
		return
	}
	if settings["appendonly"] == "no" {
		s.log(slog.LevelWarn, "b24oauth/redisstore: Redis does not write an append-only file: when it restarts, refresh tokens are lost and users have to install the application again; set appendonly to yes",
			slog.String("appendonly", "no"))
	}
	if policy := settings["maxmemory-policy"]; policy != "" {
		s.log(slog.LevelWarn, "b24oauth/redisstore: Redis evicts keys when its memory is full, and refresh tokens with them; set maxmemory-policy to noeviction",
			slog.String("maxmemory-policy", policy))
	}
}

// forgetful returns those settings of any server by which it loses grants.
func (s *Store) forgetful(ctx context.Context) (map[string]string, error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]string)
	for _, server := range servers {
		for name, forgets := range map[string]func(string) bool{
			"appendonly":       func(v string) bool { return v == "no" },
			"maxmemory-policy": func(v string) bool { return strings.HasPrefix(v, "allkeys-") }, // volatile-… takes only what expires
		} {
			value, err := setting(ctx, server, name)
			if err != nil {
				return nil, err
			}
			if forgets(value) {
				found[name] = value
			}
		}
	}
	return found, nil
}

func setting(ctx context.Context, server redis.Cmdable, name string) (string, error) {
	values, err := server.ConfigGet(ctx, name).Result()
	return values[name], err
}
