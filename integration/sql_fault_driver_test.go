package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
)

// faults make chosen statements of a pool fail, as if its connection had died.
type faults struct {
	mu   sync.Mutex
	next func(statement string) fault // nil: none; guarded by mu
	lost []lostStatement              // on their way; guarded by mu
}

type lostStatement struct {
	text string
	args []any
}

type fault int

const (
	healthy fault = iota
	before        // the connection dies, the statement is not carried out
	after         // the connection dies when it is, unheard
	overdue       // the connection dies when ctx ends; faults.carryOut brings the statement to the database
)

var errDied = errors.New("connection reset by the test")

// set replaces what decides over the statements from now on.
func (f *faults) set(next func(statement string) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = next
}

func (f *faults) of(statement string) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		return healthy
	}
	return f.next(statement)
}

// carryOut runs the statements that are overdue.
func (f *faults) carryOut(t *testing.T, db *sql.DB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lost) == 0 {
		t.Error("no statement is overdue")
	}
	for _, s := range f.lost {
		if _, err := db.Exec(s.text, s.args...); err != nil {
			t.Error(err)
		}
	}
	f.lost = nil
}

func (f *faults) lose(text string, args []driver.NamedValue) {
	s := lostStatement{text: text}
	for _, a := range args {
		s.args = append(s.args, a.Value)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = append(f.lost, s)
}

// faulty opens the database through a driver that has faults.
func (d database) faulty(t *testing.T, f *faults) *sql.DB {
	t.Helper()
	db := sql.OpenDB(&faultyConnector{d.pool(t).Driver(), d.DSN, f})
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(10)
	return db
}

type faultyConnector struct {
	driver driver.Driver
	dsn    string
	faults *faults
}

func (c *faultyConnector) Driver() driver.Driver { return c.driver }

func (c *faultyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	return &faultyConn{Conn: conn, faults: c.faults}, err
}

type faultyConn struct {
	driver.Conn
	faults *faults
	dead   bool
}

func (c *faultyConn) IsValid() bool { return !c.dead }

func (c *faultyConn) die() error {
	c.dead = true
	c.Conn.Close()
	return errDied
}

func (c *faultyConn) Close() error {
	if c.dead {
		return nil
	}
	return c.Conn.Close()
}

// Prepare is how database/sql has a query made, for want of a QueryContext.
func (c *faultyConn) Prepare(query string) (driver.Stmt, error) {
	if c.faults.of(query) != healthy {
		return nil, c.die()
	}
	return c.Conn.Prepare(query)
}

// CheckNamedValue lets all pass: the Store sends nothing but driver.Values.
func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

func (c *faultyConn) ExecContext(ctx context.Context, statement string, args []driver.NamedValue) (driver.Result, error) {
	what := c.faults.of(statement)
	switch what {
	case before:
		return nil, c.die()
	case after:
		ctx = context.WithoutCancel(ctx) // it has arrived already
	case overdue:
		<-ctx.Done()
		c.faults.lose(statement, args)
		return nil, c.die()
	}
	res, err := c.exec(ctx, statement, args)
	if what == after && err == nil {
		return nil, c.die()
	}
	return res, err
}

func (c *faultyConn) exec(ctx context.Context, statement string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		return c.Conn.(driver.ExecerContext).ExecContext(ctx, statement, nil)
	}
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	return stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}
