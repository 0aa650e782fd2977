package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lastingError is an error that no waiting cures.
type lastingError struct{ error }

func (e lastingError) Unwrap() error { return e.error }

// lasting reports whether repeating does not help: the database has answered,
// and the answer is neither about others nor about its own state. An error
// that is not known to be an answer is taken for one of the connection.
func (d Dialect) lasting(err error) bool {
	if err == nil {
		return false
	}
	if errors.As(err, new(lastingError)) || errors.Is(err, sql.ErrNoRows) {
		return true
	}
	g := dialects[d]
	code, answered := g.code(err)
	return answered && !d.busy(err) && !slices.ContainsFunc(g.away, func(prefix string) bool { return strings.HasPrefix(code, prefix) })
}

// errUncommitted is the error of a connection on which a save would be undone.
var errUncommitted = lastingError{errors.New("b24oauth/sqlstore: the connection is not in autocommit mode, so that what is saved would be rolled back: " +
	"take autocommit=0 out of the DSN, and out of the server's settings for new connections")}

// pooled reports whether a pooler of transactions has lost the statement that
// the driver prepared: it is on another connection of the database, or was made
// there by somebody else.
func (d Dialect) pooled(err error) bool {
	if d != PostgreSQL {
		return false
	}
	code, _ := sqlState(err)
	return code == "26000" || code == "42P05" || code == "08P01" && strings.Contains(err.Error(), "prepared statement")
}

// explained returns err with what has to be done about it, if that is known.
func (d Dialect) explained(err error) error {
	if err == nil {
		return nil
	}
	if d.pooled(err) {
		return lastingError{fmt.Errorf("%w; a pooler such as PgBouncer loses prepared statements: add default_query_exec_mode=exec to pgx's connection string, or set max_prepared_statements of PgBouncer 1.21 or later", err)}
	}
	code, _ := dialects[d].code(err)
	if remedy := dialects[d].remedies[code]; remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

// busy reports whether the database answered that others are in the way.
func (d Dialect) busy(err error) bool {
	code, answered := dialects[d].code(err)
	return answered && slices.Contains(dialects[d].busy, code)
}

// The answers of the databases are recognised by what all of their drivers
// have in common, because none is imported.

func sqlState(err error) (string, bool) {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return "", false
	}
	return e.SQLState(), true
}

var mysqlText = regexp.MustCompile(`\bError (\d{4})\b`)

func mysqlNumber(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	m := mysqlText.FindStringSubmatch(err.Error())
	if m == nil {
		return "", false
	}
	return m[1], true
}

func sqliteCode(err error) (string, bool) {
	var e interface{ Code() int }
	if errors.As(err, &e) {
		return strconv.Itoa(e.Code() & 0xff), true // without the extension
	}
	if err != nil && strings.Contains(err.Error(), " is locked") {
		return "5", true
	}
	return "", false
}
