package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// failuresInARow is how often a try may fail for what is not known to be
// somebody else's lock, such as a connection, before the caller is told. A
// database that is down is not waited for.
const failuresInARow = 3

// wait repeats try until it succeeds, with growing pauses, bounded by ctx.
func (s *Store) wait(ctx context.Context, try func(context.Context) (bool, error)) error {
	var p pause
	failures := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := try(ctx)
		switch {
		case err == nil && done:
			return nil
		case err == nil, s.dialect.busy(err):
			failures = 0
		default:
			failures++
		}
		if ctx.Err() == nil && (s.dialect.lasting(err) || failures == failuresInARow) {
			return err
		}
		if !p.sleep(ctx) {
			return ended(ctx, err)
		}
	}
}

// ended returns the error of a ctx that ended while err was in the way.
func ended(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return fmt.Errorf("%w; the last try: %w", ctx.Err(), err)
}

// pause is the time between two looks at the database: 50 ms, growing to 1 s,
// give or take a half so that those who wait for the same thing part.
type pause struct{ next time.Duration }

// sleep returns false if ctx ends first.
func (p *pause) sleep(ctx context.Context) bool {
	p.next = min(max(2*p.next, 50*time.Millisecond), time.Second)
	t := time.NewTimer(p.next/2 + rand.N(p.next))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

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
