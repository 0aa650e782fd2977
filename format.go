package b24oauth

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// What is printed ends up in a log. Config holds the client secret, a
// TokenSource and a Transport lead to one and to tokens, a MemoryStore has
// them, and a SealedStore the keys to them: so all say who they are, under
// every verb, and nothing more.

// String describes the application without its secret.
func (c *Config) String() string {
	if c == nil {
		return "<nil>"
	}
	return fmt.Sprintf("Config{client_id=%q store=%T}", c.ClientID, c.store())
}

// Format implements [fmt.Formatter] for every verb, without the secret.
func (c *Config) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue implements [slog.LogValuer], without the secret.
func (c *Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is always an error. It keeps encoding/json and the like from
// writing the client secret.
func (c *Config) MarshalText() ([]byte, error) {
	return nil, errors.New("b24oauth: a Config is not marshalled: it contains the client secret")
}

// String names the grant that the source is for.
func (s *TokenSource) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("TokenSource{key=%q}", s.key)
}

// Format implements [fmt.Formatter] for every verb, without the tokens.
func (s *TokenSource) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer], without the tokens.
func (s *TokenSource) LogValue() slog.Value { return slog.StringValue(s.String()) }

// String names the grant of a source that is a *TokenSource, and the type of
// any other.
func (t *Transport) String() string {
	if t == nil {
		return "<nil>"
	}
	source := fmt.Sprintf("%T", t.Source)
	if s, ok := t.Source.(*TokenSource); ok {
		source = s.String()
	}
	return fmt.Sprintf("Transport{source=%s base=%T}", source, t.base())
}

// Format implements [fmt.Formatter] for every verb, without the tokens.
func (t *Transport) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// LogValue implements [slog.LogValuer], without the tokens.
func (t *Transport) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is always an error, since a source may have exported fields
// with a token in them.
func (t *Transport) MarshalText() ([]byte, error) {
	return nil, errors.New("b24oauth: a Transport is not marshalled: its Source can contain tokens")
}

// String tells nothing of the grants.
func (m *MemoryStore) String() string { return "MemoryStore" }

// Format implements [fmt.Formatter] for every verb, without the grants.
func (m *MemoryStore) Format(f fmt.State, _ rune) { io.WriteString(f, m.String()) }

// String names the type of the Store below.
func (s *SealedStore) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("SealedStore{store=%T}", s.store)
}

// Format implements [fmt.Formatter] for every verb, without the keys.
func (s *SealedStore) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }
