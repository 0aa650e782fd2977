package sqlstore

import (
	"fmt"
	"io"
)

// String names the dialect and the table, and nothing of the database, whose
// address can have a password in it.
func (s *Store) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("sqlstore.Store{dialect=%v table=%q}", s.dialect, s.table())
}

// Format implements [fmt.Formatter] for every verb, as String does.
func (s *Store) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

func (s *Store) table() string {
	if s.Table == "" {
		return defaultTable
	}
	return s.Table
}
