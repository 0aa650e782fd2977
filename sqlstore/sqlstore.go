// Package sqlstore keeps grants in a table of a database that the program
// has already: PostgreSQL, MySQL or MariaDB, SQLite. It is the Store of a
// program that runs on several machines.
//
// A Bitrix24 refresh token works once. Two machines that renew the same
// grant at the same time, or one that dies between the exchange and the save,
// leave a row with a token that nobody will take any more, and the user has
// to install the application again. The obvious remedy, SELECT … FOR UPDATE
// around the exchange, holds a connection for as long as Bitrix24 takes to
// answer: a pool of ten renews ten grants at a time, and a statement timeout
// or a failover rolls back the only copy of a new token. So an Update here
// holds neither a connection nor a transaction while its function runs. One
// statement takes a lease on the grant, for 45 s by the database's own clock,
// and one statement saves, if and only if the row still has the refresh token
// that was read, no matter who holds the lease by then.
//
// The package imports no driver. It is tested with
// github.com/jackc/pgx/v5/stdlib, github.com/go-sql-driver/mysql and
// modernc.org/sqlite.
//
// # Schema
//
// [Store.CreateTable] makes the table. A DBA can make it by hand instead; the
// program then needs the rights to SELECT, INSERT, UPDATE and DELETE. For
// PostgreSQL, whose database must have the encoding UTF8:
//
//	CREATE TABLE IF NOT EXISTS b24oauth_grants (
//		key_hash    BYTEA        NOT NULL PRIMARY KEY,
//		grant_key   TEXT         NOT NULL,
//		member_id   VARCHAR(255),
//		domain      VARCHAR(255),
//		expiry      TIMESTAMPTZ,
//		version     BIGINT       NOT NULL,
//		updated_at  TIMESTAMPTZ,
//		nonce       VARCHAR(32)  NOT NULL,
//		owner       VARCHAR(32)  NOT NULL,
//		lease_until TIMESTAMPTZ  NOT NULL,
//		grant_data  BYTEA
//	)
//
// For MySQL and MariaDB:
//
//	CREATE TABLE IF NOT EXISTS b24oauth_grants (
//		key_hash    BINARY(32)   NOT NULL PRIMARY KEY,
//		grant_key   TEXT         NOT NULL,
//		member_id   VARCHAR(255),
//		domain      VARCHAR(255),
//		expiry      DATETIME(6),
//		version     BIGINT       NOT NULL,
//		updated_at  DATETIME(6),
//		nonce       VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
//		owner       VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
//		lease_until DATETIME(6)  NOT NULL,
//		grant_data  MEDIUMBLOB
//	) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
//
// For SQLite:
//
//	CREATE TABLE IF NOT EXISTS b24oauth_grants (
//		key_hash    BLOB    NOT NULL PRIMARY KEY,
//		grant_key   TEXT    NOT NULL,
//		member_id   TEXT,
//		domain      TEXT,
//		expiry      TEXT,
//		version     INTEGER NOT NULL,
//		updated_at  TEXT,
//		nonce       TEXT    NOT NULL,
//		owner       TEXT    NOT NULL,
//		lease_until TEXT    NOT NULL,
//		grant_data  BLOB
//	)
//
// What a person finds in a row:
//
//	key_hash     SHA-256 of the key: no collation, no index limit has a say
//	grant_key    the key; % and whatever cannot be seen or is no UTF-8 as %xx
//	member_id    the portal's identity
//	domain       the portal's present host
//	expiry       when the access token ends, UTC, by the saving machine's clock
//	version      1 for the first grant saved, one more with each save
//	updated_at   the last save, UTC, by the database's clock
//	nonce        the fence, by which a save knows what it replaces: the first 64
//	             bits of the SHA-256 of the refresh token as it is stored, or
//	             of the access token if there is none; deleted-… of a deleted
//	             grant; empty: no grant, but an Update of the key that runs or
//	             was killed. Random in a row that was last saved when the fence
//	             was a nonce: it counts as it is until the next save
//	owner        the Update that holds the lease; empty: none
//	lease_until  the end of its lease, UTC, by the database's clock
//	grant_data   the grant, with its tokens in plain text; see package sealedstore
//
// member_id, domain, expiry and updated_at are for people: nothing is decided
// by them. A grant is deleted by [b24oauth.Config.Delete], which leaves a row
// that says so: a process that has the pair of a row that is gone writes it
// back.
//
// # What the database must do
//
// It has to be one database: read replicas and proxies that spread reads show
// old tokens. A save must be durable when it is answered, which is the
// default of all three: synchronous_commit=on in PostgreSQL,
// innodb_flush_log_at_trx_commit=1 in MySQL, synchronous=FULL in SQLite. A
// failover that loses the last saves loses those refresh tokens. Any isolation
// level will do. For MySQL the connections' character set has to be utf8mb4, the
// driver's default; interpolateParams=true spares two round trips of three.
//
// What would keep a grant from being saved fails the taking of the lease, while
// the refresh token is good: a read-only session or server, a missing right to
// any column, a connection that is not in autocommit mode, a grant_data that is
// too narrow.
//
// Behind a pooler that shares connections between transactions, such as
// PgBouncer with pool_mode=transaction, a driver must not prepare statements,
// as pgx does unless it is told otherwise; an Update then fails before its
// function is called, and says so. Add default_query_exec_mode=exec to pgx's
// connection string, or set max_prepared_statements of PgBouncer 1.21 or later.
//
// A SQLite database is for one machine and needs a busy timeout. With WAL,
// reading never waits for a save:
//
//	sql.Open("sqlite", "file:/var/lib/example/grants.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// A Store is a [b24oauth.Store] in a table. Make one with [New]; several on
// the same table, in one process or on many machines, exclude each other.
//
// A missing table, column or right, a table that is not that of the package's
// documentation, the wrong Dialect, a user or database that the server does not
// know, a damaged row: these stay until somebody acts, and their errors wrap
// [b24oauth.ErrMisconfigured]. Any other, a session that may not write included,
// as after a failover, passes.
//
// The fields are options, to be set before first use.
type Store struct {
	// Table is the name of the table, with or without a schema: letters,
	// digits and underscores of ASCII. It is used without quotes, so
	// PostgreSQL takes it in lower case. Empty: b24oauth_grants.
	Table string

	// Lease is how long an Update has its grant for itself, at most: the
	// context of its function ends with it. It is also how long others wait
	// for the grant of a process that was killed. It must be at least
	// 2 × RefreshTimeout of [b24oauth.Config] and 10 s more, without which no
	// token request is sent; what remains beyond that is the grace for an
	// answer that comes late. Zero: 45 s.
	Lease time.Duration

	db        *sql.DB
	dialect   Dialect
	asking    chan struct{} // holds an element for each Update that asks the database for exclusivity
	kept      sync.Map      // key to owner of a lease that was kept after a failed save
	releases  sync.Map      // key to a channel that is closed once a lease is given back
	releasing chan struct{} // holds an element for each goroutine that gives one back
	proven    atomic.Bool   // the table was found fit for saving; see claim
	build     sync.Once     // guards the two below
	sql       *statements
	err       error
}

var _ b24oauth.Lister = (*Store)(nil)

const (
	defaultTable = "b24oauth_grants"
	defaultLease = 45 * time.Second

	// saveBudget is what the saving of a grant may take in all, saveTry what
	// a single try may: a connection that went silent is not waited for until
	// the end.
	saveBudget = 10 * time.Second
	saveTry    = 3 * time.Second

	// roomForGrants is what grant_data must hold, at least: that of a BLOB. A
	// grant has a tenth of it.
	roomForGrants = 1<<16 - 1

	// askingAtATime keeps the line for a connection short, in which those who
	// have a new token to save stand too, however many wait for exclusivity.
	askingAtATime = 8

	// releaseBudget is short because a lease that is not given back runs out.
	// An Update waits for the releaseGrace of it, because the program may end
	// right after, and others would wait until the lease has run out.
	releaseBudget = 2 * time.Second
	releaseGrace  = 250 * time.Millisecond

	// releasingAtATime bounds the goroutines that a silent database can leave
	// behind; beyond it an Update gives its lease back itself.
	releasingAtATime = 64
)

// New returns a Store in the database. The Store does not close it, and needs
// no connections of its own: a pool of a few serves thousands of grants. It
// does not look at the database: see [Store.CreateTable].
func New(db *sql.DB, d Dialect) *Store {
	return &Store{
		db: db, dialect: d,
		asking:    make(chan struct{}, askingAtATime),
		releasing: make(chan struct{}, releasingAtATime),
	}
}

// CreateTable makes the table unless it exists. Any number of processes may
// do so at the same time. It does not change a table that exists.
func (s *Store) CreateTable(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	var err error
	// Processes that do it at the same time get in each other's way in
	// PostgreSQL, once.
	for range 3 {
		if _, err = s.db.ExecContext(ctx, s.sql.create); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("b24oauth/sqlstore: the table was not created: %w; let a DBA apply the schema in the package's documentation if this user may not", s.explained(err))
	}
	return nil
}

// ready prepares the statements, once, and tells what is wrong with the
// Store's options.
func (s *Store) ready() error {
	s.build.Do(func() {
		s.sql, s.err = s.dialect.statements(s.table())
		switch {
		case s.err != nil:
		case s.db == nil:
			s.err = errors.New("b24oauth/sqlstore: no database: pass New what sql.Open returned")
		case s.Lease < 0:
			s.err = fmt.Errorf("b24oauth/sqlstore: Lease is %v: set how long an Update may take, or nothing for %v", s.Lease, defaultLease)
		}
		if s.err != nil {
			s.err = setup.Wrong(s.err)
		}
	})
	return s.err
}

func (s *Store) lease() time.Duration {
	if s.Lease == 0 {
		return defaultLease
	}
	return s.Lease
}

// Load implements [b24oauth.Store]. It is one SELECT that takes no lock.
func (s *Store) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	id, err := s.identify(key)
	if err != nil {
		return nil, err
	}
	var hash, data []byte
	err = s.wait(ctx, func(ctx context.Context) (bool, error) {
		err := s.db.QueryRowContext(ctx, s.sql.load, id.hash).Scan(&hash, &data)
		if err == nil && !bytes.Equal(hash, id.hash) {
			err = errors.New("the answer is another statement's, as behind a pooler that shares connections between transactions: let the driver prepare no statements")
		}
		return true, err
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("%w under %q", b24oauth.ErrNoGrant, key)
	case err != nil:
		return nil, fmt.Errorf("b24oauth/sqlstore: the grant cannot be read: %w", err)
	}
	return decode(key, data)
}

// Update implements [b24oauth.Store]. It needs no connection while fn runs.
// Others that wait for exclusivity look every 50 ms at first and every second
// later on. If ctx has a deadline, a request for the lease that the database
// carries out later than that has no effect.
//
// The lease is given back with the save, or by a statement of its own, for
// whose answer Update waits for a quarter of a second and the next Update of
// the key through the same Store for two. One that is not given back by then
// runs out.
//
// If the grant that fn returned could not be saved, nor refused, the lease is
// kept: the save may still arrive, the caller is alive and will try again,
// and another process must not come first with the refresh token that is used
// up. The next Update of the key through the same Store goes on with it;
// otherwise it runs out.
func (s *Store) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	id, err := s.identify(key)
	if err != nil {
		return err
	}
	l, err := s.take(ctx, id)
	if err != nil {
		return err
	}
	held := true // false once the lease has gone with what was saved, or is kept
	defer func() {
		if held {
			l.release(ctx)
		}
	}()

	fnCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), l.ends)
	defer cancel()
	g, err := fn(fnCtx, l.given)
	switch {
	case errors.Is(err, b24oauth.ErrDelete):
		err = l.remove(ctx)
		held = l.fence == ""
	case err != nil || g == nil:
		return err
	default:
		err = l.save(ctx, g)
		held = false
	}
	switch {
	case errors.Is(err, b24oauth.ErrConflict):
		held = true
	case err != nil:
		held = false
		s.kept.Store(key, l.owner)
	}
	return err
}
