package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/b24go/b24oauth/internal/setup"
)

// longestKey is what fits into the narrowest column for it, escaped.
const longestKey = 8 << 10

// pageSize is how many keys are read at once.
const pageSize = 500

// identity is a key in the forms in which it is stored. The hash finds the
// row; the readable form is for people and for Keys.
type identity struct {
	key      string
	hash     []byte
	readable string
}

// identify also tells what is wrong with the Store.
func (s *Store) identify(key string) (identity, error) {
	if err := s.ready(); err != nil {
		return identity{}, err
	}
	switch {
	case key == "":
		return identity{}, setup.Wrong(errors.New("b24oauth/sqlstore: the key is empty: choose one, such as the portal's member_id"))
	case len(key) > longestKey:
		return identity{}, setup.Wrong(fmt.Errorf("b24oauth/sqlstore: the key has %d bytes: choose a shorter one, up to %d", len(key), longestKey))
	}
	hash := sha256.Sum256([]byte(key))
	return identity{key: key, hash: hash[:], readable: escape(key)}, nil
}

// escape returns s with % and every byte of what is not printable, or no
// UTF-8, as %xx. PostgreSQL takes no NUL and MySQL no invalid UTF-8 as text.
func escape(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == '%' || !unicode.IsPrint(r) || r == utf8.RuneError && n == 1 {
			for _, c := range []byte(s[:n]) {
				b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unescape undoes escape.
func unescape(s string) (key string, ok bool) {
	var b strings.Builder
	for {
		literal, rest, more := strings.Cut(s, "%")
		b.WriteString(literal)
		if !more {
			return b.String(), true
		}
		if len(rest) < 2 {
			return "", false
		}
		c, err := hex.DecodeString(rest[:2])
		if err != nil {
			return "", false
		}
		b.Write(c)
		s = rest[2:]
	}
}

// Keys implements [b24oauth.Lister]. Each iteration reads the table in pages,
// and holds no connection while the loop's body runs. A row whose grant_key
// was changed by somebody else is yielded as an error.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.ready(); err != nil {
			yield("", err)
			return
		}
		last := []byte{0}
		for {
			page, err := s.page(ctx, last)
			if err != nil {
				yield("", fmt.Errorf("b24oauth/sqlstore: the keys cannot be read: %w", err))
				return
			}
			for _, id := range page {
				if !yield(id.original()) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			last = page[len(page)-1].hash
		}
	}
}

// page returns the rows after the one with that hash.
func (s *Store) page(ctx context.Context, last []byte) (page []identity, err error) {
	err = s.wait(ctx, func(ctx context.Context) (bool, error) {
		page = nil
		rows, err := s.db.QueryContext(ctx, s.sql.keys, last)
		if err != nil {
			return false, err
		}
		defer rows.Close()
		for rows.Next() {
			var id identity
			if err := rows.Scan(&id.hash, &id.readable); err != nil {
				return false, err
			}
			page = append(page, id)
		}
		return true, rows.Err()
	})
	return page, err
}

// original returns the key of a row.
func (id identity) original() (string, error) {
	key, ok := unescape(id.readable)
	if hash := sha256.Sum256([]byte(key)); !ok || !bytes.Equal(hash[:], id.hash) {
		return "", setup.Wrong(fmt.Errorf("b24oauth/sqlstore: the row with the key_hash %x and the grant_key %q is no row of this Store: the hash is not that of the key", id.hash, id.readable))
	}
	return key, nil
}
