package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
)

// mysqlError is like go-sql-driver's.
type mysqlError struct {
	Number  uint16
	Message string
}

func (e *mysqlError) Error() string { return e.Message }

// phrased is like an error of modernc.org/sqlite: SQLITE_ERROR with words.
type phrased struct {
	codeError
	text string
}

func (p phrased) Error() string { return p.text }

func TestAnswersThatStayAreMisconfigured(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		err     error
		says    string // empty: it passes
	}{
		{PostgreSQL, sqlStateError("42P01"), "Store.CreateTable"},
		{PostgreSQL, sqlStateError("42703"), "the table grants is not the one"},
		{PostgreSQL, sqlStateError("42501"), "on the whole table grants"},
		{PostgreSQL, sqlStateError("28P01"), "the password"},
		{PostgreSQL, sqlStateError("3D000"), "the database"},
		{PostgreSQL, sqlStateError("42601"), "Dialect"},
		{PostgreSQL, sqlStateError("XX001"), "restore"},
		{PostgreSQL, sqlStateError("25006"), ""}, // a primary that has become a standby
		{PostgreSQL, sqlStateError("0A000"), ""}, // a cached plan after ALTER TABLE
		{PostgreSQL, sqlStateError("26000"), ""}, // a pooler: the next connection may do
		{PostgreSQL, sqlStateError("53300"), ""},
		{PostgreSQL, sqlStateError("57P03"), ""},
		{PostgreSQL, sqlStateError("40001"), ""},
		{PostgreSQL, sqlStateError("P0001"), ""}, // raised by a trigger, for its own reasons
		{PostgreSQL, &mysqlError{1064, "near '$1'"}, "MySQL has answered"},
		{PostgreSQL, errors.New("Error 1146 (42S02): Table 'b.grants' doesn't exist"), "MySQL has answered"},
		{PostgreSQL, phrased{1, "SQL logic error: no such function: clock_timestamp (1)"}, "SQLite has answered"},
		{PostgreSQL, codeError(14), ""}, // whatever has such a method
		{PostgreSQL, errors.New("dial tcp: connection refused"), ""},
		{PostgreSQL, driver.ErrBadConn, ""},
		{PostgreSQL, context.DeadlineExceeded, ""},
		{MySQL, &mysqlError{1146, "Table 'b.grants' doesn't exist"}, "Store.CreateTable"},
		{MySQL, &mysqlError{1045, "Access denied for user"}, "the password"},
		{MySQL, &mysqlError{1049, "Unknown database"}, "the database"},
		{MySQL, &mysqlError{1142, "UPDATE command denied"}, "grant the program's user"},
		{MySQL, errors.New("ERROR 1142 (42000): UPDATE command denied"), "grant the program's user"},
		{MySQL, errors.Join(errors.New("two tries"), &mysqlError{1054, "Unknown column"}), "the table grants is not the one"},
		{MySQL, &mysqlError{1290, "--read-only"}, ""},
		{MySQL, &mysqlError{1792, "READ ONLY transaction"}, ""},
		{MySQL, &mysqlError{1040, "Too many connections"}, ""},
		{MySQL, &mysqlError{1205, "Lock wait timeout exceeded"}, ""},
		{MySQL, &mysqlError{1644, "raised by a trigger"}, ""},
		{MySQL, sqlStateError("42601"), "PostgreSQL has answered"},
		{MySQL, phrased{1, `SQL logic error: no such function: UTC_TIMESTAMP (1)`}, "SQLite has answered"},
		{SQLite, phrased{1, "SQL logic error: no such table: grants (1)"}, "Store.CreateTable"},
		{SQLite, errors.New("no such table: grants"), "Store.CreateTable"}, // a driver without numbers
		{SQLite, errors.New("attempt to write a readonly database"), "write to the file"},
		{SQLite, codeError(8 | 4<<8), "write to the file"}, // SQLITE_READONLY_DBMOVED
		{SQLite, codeError(14), "check the path"},
		{SQLite, codeError(26), "restore"},
		{SQLite, phrased{19 | 5<<8, "constraint failed: NOT NULL constraint failed: grants.more (1299)"}, "the table grants is not the one"},
		{SQLite, phrased{19 | 7<<8, "constraint failed: not in this house (1811)"}, ""}, // raised by a trigger
		{SQLite, phrased{1, "SQL logic error: cannot start a transaction within a transaction (1)"}, ""},
		{SQLite, codeError(13), ""},
		{SQLite, codeError(10), ""},
		{SQLite, codeError(5), ""},
		{SQLite, sqlStateError("42601"), "PostgreSQL has answered"},
		{SQLite, &mysqlError{1064, "near '||'"}, "MySQL has answered"},
	} {
		s := New(sql.OpenDB(nowhere{}), c.dialect)
		s.Table = "grants"
		err := s.explained(fmt.Errorf("a driver around it: %w", c.err))
		stays := errors.Is(err, b24oauth.ErrMisconfigured)
		if stays != (c.says != "") || !strings.Contains(err.Error(), c.says) || !errors.Is(err, c.err) {
			t.Errorf("%v: %v; want one that stays: %t, and says %q", c.dialect, err, c.says != "", c.says)
		}
		if stays && !c.dialect.lasting(err) {
			t.Errorf("%v: %v is tried again at once", c.dialect, err)
		}
	}
}

func TestNoAnswerBothStaysAndPasses(t *testing.T) {
	for d, g := range dialects {
		for code, remedy := range g.setup {
			away := slices.ContainsFunc(g.away, func(prefix string) bool {
				return strings.HasPrefix(code, prefix) && (d == PostgreSQL || code == prefix)
			})
			if remedy == "" || away || slices.Contains(g.busy, code) || g.remedies[code] != "" {
				t.Errorf("%v: %s is in two tables, or has no remedy", d, code)
			}
		}
	}
}

func TestEachMisuseIsMisconfigured(t *testing.T) {
	db := sql.OpenDB(nowhere{})
	negative, table := New(db, SQLite), New(db, MySQL)
	negative.Lease, table.Table = -1, "a;b"
	for name, s := range map[string]*Store{"no dialect": New(db, 0), "no database": New(nil, MySQL), "Lease": negative, "Table": table} {
		for method, err := range everyMethod(s) {
			if !errors.Is(err, b24oauth.ErrMisconfigured) {
				t.Errorf("%s: %s = %v; want ErrMisconfigured", name, method, err)
			}
		}
	}
	for _, key := range []string{"", strings.Repeat("k", longestKey+1)} {
		if _, err := New(db, SQLite).Load(t.Context(), key); !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("a key of %d bytes: %v; want ErrMisconfigured", len(key), err)
		}
	}
}
