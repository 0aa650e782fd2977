package redisstore

import (
	"errors"
	"net/url"
	"strings"

	"github.com/b24go/b24oauth/internal/setup"
	"github.com/redis/go-redis/v9"
)

// defaultPrefix stands before the names of all grants unless Store.Prefix
// says otherwise.
const defaultPrefix = "b24oauth:"

func (s *Store) prefix() string {
	if s.Prefix == "" {
		return defaultPrefix
	}
	return s.Prefix
}

// name returns the name of the hash that keeps the grant of key, such as
// b24oauth:{example.bitrix24.com}. The key is escaped as in a path of a URL,
// so that it holds no brace and nothing that a terminal cannot show. Between
// braces it alone decides on the slot: what a program keeps under {key} by
// itself is in the same one.
func (s *Store) name(key string) (string, error) {
	if key == "" {
		return "", setup.Wrong(errors.New("b24oauth/redisstore: the key is empty: choose one, such as the portal's member_id"))
	}
	if s.client == nil {
		return "", setup.Wrong(errors.New("b24oauth/redisstore: no client: pass New one of go-redis"))
	}
	if _, ok := s.client.(*redis.Ring); ok {
		return "", setup.Wrong(errors.New("b24oauth/redisstore: a redis.Ring is no place for grants: it looks for them on another server while theirs is down; use a cluster or a failover client"))
	}
	return s.prefix() + "{" + url.PathEscape(key) + "}", nil
}

// key undoes name. It reports false for any name that name does not return.
func (s *Store) key(name string) (string, bool) {
	escaped, ok := strings.CutPrefix(name, s.prefix()+"{")
	if !ok {
		return "", false
	}
	key, err := url.PathUnescape(strings.TrimSuffix(escaped, "}"))
	if err != nil || key == "" {
		return "", false
	}
	again, err := s.name(key)
	return key, err == nil && again == name
}

// pattern matches the names of all grants, in the language of SCAN.
func (s *Store) pattern() string {
	literal := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
	return literal.Replace(s.prefix()) + "{*}"
}
