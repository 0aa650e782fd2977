package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// save stores g in place of the value that fn was given, and gives the lease
// back with it if it is still ours.
//
// The answer to a save can get lost, and its caller would then take the pair
// that is stored for lost. So the save is repeated, and known by g's fence if
// it was carried out. With the fence that was there before, as of a verdict, it
// may be carried out twice. If another grant has come after it meanwhile, that
// one stays, and the answer is ErrConflict: g is out of date either way.
func (l *lease) save(ctx context.Context, g *b24oauth.Grant) error {
	data, err := g.MarshalBinary()
	if err != nil {
		return fmt.Errorf("b24oauth/sqlstore: the grant was not stored: %w", err)
	}
	if err := new(b24oauth.Grant).UnmarshalBinary(data); err != nil {
		return fmt.Errorf("b24oauth/sqlstore: the grant was not stored, it could not be read again: %w", err)
	}
	s, fence := l.s, g.Fence()
	values := []any{excerpt(g.MemberID), excerpt(host(g)), timestamp(s.dialect, g.Expiry), data, fence}
	lost := false // a try before this one may have been carried out
	return s.persist(ctx, saveBudget, func(ctx context.Context, c *attempt) (done bool, err error) {
		defer func() { lost = lost || err != nil }()
		done, err = changed(ctx, c, s.sql.save+c.mark, append(values[:len(values):len(values)], l.owner, l.id.hash, l.fence)...)
		if done || err != nil {
			return done, err
		}
		found, exists, err := l.found(ctx, c)
		switch {
		case err != nil:
			return false, err
		case exists && found == l.fence:
			return false, nil // it came between the two statements, as another Update's lease on a key without a grant
		case exists && found == fence && lost:
			return true, nil
		case !exists && l.fence == "":
			// Nothing then and nothing now: the row of our lease has gone
			// with the Update that took over.
			return changed(ctx, c, s.sql.insert+c.mark, append(values[:len(values):len(values)], l.id.hash, l.id.readable)...)
		}
		return false, b24oauth.ErrConflict
	})
}

// remove deletes the row if its value is the one that fn was given.
func (l *lease) remove(ctx context.Context) error {
	s := l.s
	if l.fence == "" {
		// The row must not be deleted as such: it may be another Update's
		// lease by now.
		return s.persist(ctx, saveBudget, func(ctx context.Context, c *attempt) (bool, error) {
			found, _, err := l.found(ctx, c)
			if err == nil && found != "" {
				err = b24oauth.ErrConflict
			}
			return err == nil, err
		})
	}
	lost := false // a try before this one may have been carried out
	return s.persist(ctx, saveBudget, func(ctx context.Context, c *attempt) (done bool, err error) {
		defer func() { lost = lost || err != nil }()
		done, err = changed(ctx, c, s.sql.remove+c.mark, l.id.hash, l.fence)
		if done || err != nil {
			return done, err
		}
		_, exists, err := l.found(ctx, c)
		switch {
		case err != nil:
			return false, err
		case !exists && lost:
			return true, nil
		}
		return false, b24oauth.ErrConflict
	})
}

// found returns the fence that is in the row now.
func (l *lease) found(ctx context.Context, c *attempt) (fence string, exists bool, err error) {
	var commits bool
	err = c.QueryRowContext(ctx, l.s.sql.fence+c.mark, l.id.hash).Scan(&commits, &exists, &fence)
	if err == nil && !commits {
		err = errUncommitted
	}
	return fence, exists, err
}

// persist repeats a change until it is done, refused, or out of time. It
// heeds nothing of ctx but its values.
//
// An answer that no waiting changes is believed when it has come a few times:
// behind a pooler, a driver can have another client's statement carried out, and
// one connection of a pool can be in a state that the others are not in.
func (s *Store) persist(ctx context.Context, budget time.Duration, change func(context.Context, *attempt) (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	var p pause
	mark, lasting := "", 0
	for {
		done, err := s.onConn(ctx, mark, change)
		switch {
		case done && err == nil:
			return nil
		case errors.Is(err, b24oauth.ErrConflict):
			return err
		case s.dialect.pooled(err):
			mark = " -- " + rand.Text()
		case s.dialect.lasting(err):
			lasting++
		}
		if lasting == failuresInARow || !p.sleep(ctx) {
			return fmt.Errorf("b24oauth/sqlstore: the stored grant was not changed, as far as is known: %w", errors.Join(s.explained(err), ctx.Err()))
		}
	}
}

// attempt is one try to change a row, on one connection.
type attempt struct {
	*sql.Conn

	// mark ends its statements once a pooler has lost one: a statement of the
	// same text may be prepared already, on a connection of the database where
	// the driver does not know of it and fails each time.
	mark string
}

// onConn tries a change once. It waits for a connection in line with others
// and then only for the database: to be sent back to the end of a long line
// would not save anything.
func (s *Store) onConn(ctx context.Context, mark string, change func(context.Context, *attempt) (done bool, err error)) (bool, error) {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, saveTry)
	defer cancel()
	done, err := change(ctx, &attempt{c, mark})
	if errors.Is(err, errUncommitted) {
		c.Raw(func(any) error { return driver.ErrBadConn }) // so that the next try has another one
	}
	return done, err
}

// decode reads what was stored under key.
func decode(key string, data []byte) (*b24oauth.Grant, error) {
	g := new(b24oauth.Grant)
	if err := g.UnmarshalBinary(data); err != nil {
		return nil, setup.Wrong(fmt.Errorf("b24oauth/sqlstore: the grant under %q is not usable: %w; nothing replaces it, in case it is whole: if a newer version of the program wrote it, update this one; else restore the row from a backup, or move it to another table, to be kept there, and install the application again", key, err))
	}
	return g, nil
}

// excerpt returns s for a column that is for people. What does not fit must
// not keep a grant from being stored.
func excerpt(s string) any {
	const width = 255 // characters
	if s == "" {
		return nil
	}
	if runes := []rune(escape(s)); len(runes) > width {
		return string(runes[:width])
	}
	return escape(s)
}

func host(g *b24oauth.Grant) string {
	u, err := url.Parse(g.ClientEndpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// timestamp returns t as text, so that no driver converts it to a zone of its
// own; nil if it is not known or beyond what every database holds.
func timestamp(d Dialect, t time.Time) any {
	t = t.UTC()
	if t.Year() < 1970 || t.Year() > 9999 {
		return nil
	}
	return t.Format("2006-01-02 15:04:05.000000") + dialects[d].zone
}
