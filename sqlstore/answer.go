package sqlstore

import (
	"database/sql"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// lastingError is an error that no waiting cures, although it may be another one
// at the next call.
type lastingError struct{ error }

func (e lastingError) Unwrap() error { return e.error }

// lasting reports whether repeating does not help: the database has answered,
// and the answer is neither about others nor about its own state. An error
// that is not known to be an answer is taken for one of the connection.
func (d Dialect) lasting(err error) bool {
	if err == nil {
		return false
	}
	if errors.As(err, new(lastingError)) || errors.Is(err, b24oauth.ErrMisconfigured) || errors.Is(err, sql.ErrNoRows) {
		return true
	}
	g := dialects[d]
	code, answered := g.code(err)
	return answered && !d.busy(err) && !slices.ContainsFunc(g.away, func(prefix string) bool { return strings.HasPrefix(code, prefix) })
}

// errUncommitted is the error of a connection on which a save would be undone.
var errUncommitted = setup.Wrong(errors.New("b24oauth/sqlstore: the connection is not in autocommit mode, so that what is saved would be rolled back: " +
	"take autocommit=0 out of the DSN, and out of the server's settings for new connections"))

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

// mysqlText is for drivers whose errors have their number in the text alone.
var mysqlText = regexp.MustCompile(`(?i)\berror (\d{4})\b`)

func mysqlNumber(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	if n, ok := numberField(err); ok {
		return n, true
	}
	m := mysqlText.FindStringSubmatch(err.Error())
	if m == nil {
		return "", false
	}
	return m[1], true
}

// numberField returns the Number of go-sql-driver's *MySQLError, which has no
// method for it.
func numberField(err error) (string, bool) {
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Number"); f.Kind() == reflect.Uint16 {
			return strconv.FormatUint(f.Uint(), 10), true
		}
	}
	var causes []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	}
	for _, cause := range causes {
		if cause == nil {
			continue
		}
		if n, ok := numberField(cause); ok {
			return n, true
		}
	}
	return "", false
}

// sqliteCode returns the number of an answer, without the extension, or what the
// text says instead: of a driver that tells no number, or where the number,
// SQLITE_ERROR or SQLITE_CONSTRAINT, leaves open what is wrong.
func sqliteCode(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	var e interface{ Code() int }
	numbered, number := errors.As(err, &e), ""
	if numbered {
		number = strconv.Itoa(e.Code() & 0xff)
	}
	if !numbered || number == "1" || number == "19" {
		for _, phrase := range sqlitePhrases {
			if strings.Contains(err.Error(), phrase) {
				return phrase, true
			}
		}
	}
	if !numbered && strings.Contains(err.Error(), " is locked") {
		return "5", true
	}
	return number, numbered
}
