package redisstore

import (
	"fmt"
	"io"
)

// String tells the prefix, and nothing of the client, whose options can have a
// password in them.
func (s *Store) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("redisstore.Store{prefix=%q}", s.prefix())
}

// Format implements [fmt.Formatter] for every verb, as String does.
func (s *Store) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }
