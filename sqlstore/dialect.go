package sqlstore

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Dialect says which database the Store talks to.
type Dialect int

// The databases that are supported. The zero Dialect is none of them, so that
// one that was forgotten is an error.
const (
	PostgreSQL Dialect = iota + 1
	MySQL              // MariaDB too
	SQLite
)

func (d Dialect) String() string {
	if dialects[d].name == "" {
		return "Dialect(" + strconv.Itoa(int(d)) + ")"
	}
	return dialects[d].name
}

// grammar is what a dialect has of its own.
type grammar struct {
	name   string
	schema string

	now      string // the database's clock, while the statement runs or when it began
	clock    string // the same as whole microseconds since 1970
	later    string // now and a parameter more, which is what lease returns
	lease    func(time.Duration) any
	time     string // a parameter that is a time, as timestamp returns it
	zone     string // what follows a time that is UTC
	yielding string // what makes an INSERT leave a row alone that is there
	room     string // how many bytes grant_data holds; empty: any number

	// committed is true if a statement alone is a transaction: elsewhere what
	// was saved, and answered, would be rolled back with its connection.
	committed string

	// The codes of the error answers that waiting can cure: the others of
	// the database are in the way (busy), or the database is (away).
	code       func(error) (string, bool)
	busy, away []string

	remedies map[string]string // what is to be done about those, if anything is
	setup    map[string]string // what is to be done about the answers that stay until somebody does
}

var dialects = map[Dialect]grammar{
	PostgreSQL: {
		name: "PostgreSQL",
		schema: `CREATE TABLE IF NOT EXISTS b24oauth_grants (
	key_hash    BYTEA        NOT NULL PRIMARY KEY,
	grant_key   TEXT         NOT NULL,
	member_id   VARCHAR(255),
	domain      VARCHAR(255),
	expiry      TIMESTAMPTZ,
	version     BIGINT       NOT NULL,
	updated_at  TIMESTAMPTZ,
	nonce       VARCHAR(32)  NOT NULL,
	owner       VARCHAR(32)  NOT NULL,
	lease_until TIMESTAMPTZ  NOT NULL,
	grant_data  BYTEA
)`,
		now:       "clock_timestamp()",
		clock:     "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
		later:     "clock_timestamp() + CAST(? AS BIGINT) * INTERVAL '1 microsecond'",
		lease:     func(d time.Duration) any { return d.Microseconds() + 1 },
		time:      "CAST(? AS TIMESTAMPTZ)",
		zone:      "+00",
		yielding:  " ON CONFLICT (key_hash) DO NOTHING",
		committed: "1 = 1",
		code:      sqlState,
		// serialization_failure, deadlock_detected, lock_not_available
		busy: []string{"40001", "40P01", "55P03"},
		// connection_exception, insufficient_resources,
		// operator_intervention, system_error, a server that was a primary
		away:     []string{"08", "53", "57", "58", "25006"},
		remedies: map[string]string{"25006": letItWrite},
		setup:    postgresSetup,
	},
	MySQL: {
		name: "MySQL",
		schema: `CREATE TABLE IF NOT EXISTS b24oauth_grants (
	key_hash    BINARY(32)   NOT NULL PRIMARY KEY,
	grant_key   TEXT         NOT NULL,
	member_id   VARCHAR(255),
	domain      VARCHAR(255),
	expiry      DATETIME(6),
	version     BIGINT       NOT NULL,
	updated_at  DATETIME(6),
	nonce       VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	owner       VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	lease_until DATETIME(6)  NOT NULL,
	grant_data  MEDIUMBLOB
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
		now:   "UTC_TIMESTAMP(6)",
		clock: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
		later: "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND",
		lease: func(d time.Duration) any { return d.Microseconds() + 1 },
		time:  "?",
		// IGNORE would hide other errors too, and ON DUPLICATE KEY UPDATE
		// counts rows by the connection's flags; so a row that is there is
		// the error 1062.
		yielding:  "",
		room:      "SELECT CHARACTER_OCTET_LENGTH FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = '{name}' AND COLUMN_NAME = 'grant_data'",
		committed: "@@autocommit = 1",
		code:      mysqlNumber,
		// lock wait timeout, deadlock, duplicate key, record has changed
		busy: []string{"1205", "1213", "1062", "1020"},
		// too many connections, shutdown, a server that was a primary,
		// interrupted, killed, a statement's time is over (MariaDB, MySQL), a
		// cluster's node that is not ready, a full disk or table
		away:     []string{"1040", "1053", "1203", "1226", "1290", "1836", "1792", "1317", "1927", "1969", "3024", "1047", "1021", "1114"},
		remedies: map[string]string{"1290": letItWrite, "1836": letItWrite, "1792": letItWrite},
		setup:    mysqlSetup,
	},
	SQLite: {
		name: "SQLite",
		schema: `CREATE TABLE IF NOT EXISTS b24oauth_grants (
	key_hash    BLOB    NOT NULL PRIMARY KEY,
	grant_key   TEXT    NOT NULL,
	member_id   TEXT,
	domain      TEXT,
	expiry      TEXT,
	version     INTEGER NOT NULL,
	updated_at  TEXT,
	nonce       TEXT    NOT NULL,
	owner       TEXT    NOT NULL,
	lease_until TEXT    NOT NULL,
	grant_data  BLOB
)`,
		now:   "strftime('%Y-%m-%d %H:%M:%f', 'now')",
		clock: "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000",
		later: "strftime('%Y-%m-%d %H:%M:%f', 'now', ?)",
		// Its clock counts whole milliseconds, so that a lease must be one
		// longer than its holder believes.
		lease:     func(d time.Duration) any { return fmt.Sprintf("+%.3f seconds", d.Seconds()+0.002) },
		time:      "?",
		yielding:  " ON CONFLICT (key_hash) DO NOTHING",
		committed: "1 = 1",
		code:      sqliteCode,
		// SQLITE_BUSY, SQLITE_LOCKED
		busy: []string{"5", "6"},
		// SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_FULL
		away:  []string{"9", "10", "13"},
		setup: sqliteSetup,
	},
}

// statements are the texts that a Store sends. Each is a transaction of its
// own.
type statements struct {
	create, load, read, place, take, release, unplace string
	save, insert, remove, fence, keys, room           string
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

func (d Dialect) statements(table string) (*statements, error) {
	g, ok := dialects[d]
	if !ok {
		return nil, fmt.Errorf("b24oauth/sqlstore: unknown %v: pass New PostgreSQL, MySQL or SQLite", d)
	}
	if !tableName.MatchString(table) {
		return nil, fmt.Errorf("b24oauth/sqlstore: Table %q is no table name: use letters, digits and underscores, at most 63, with or without a schema as in schema.table", table)
	}
	schema, name, ok := strings.Cut(table, ".")
	if schema = "'" + schema + "'"; !ok {
		schema, name = "DATABASE()", table
	}
	text := func(s string) string {
		s = strings.NewReplacer("{table}", table, "{now}", g.now, "{clock}", g.clock, "{later}", g.later, "{time}", g.time, "{committed}", g.committed).Replace(s)
		return g.parameters(s)
	}
	return &statements{
		room:   strings.NewReplacer("{schema}", schema, "{name}", name).Replace(g.room),
		create: strings.Replace(g.schema, defaultTable, table, 1),
		load:   text("SELECT key_hash, grant_data FROM {table} WHERE key_hash = ? AND nonce <> ''"),

		// A lease: a row that is read, then taken if it is still that row.
		// The fence does not change with a verdict, so the version counts too.
		// Reading brings the clock along, whether there is a row or not, so
		// that the taking can be void once nobody waits for it any more.
		//
		// What a save writes, the taking writes too, as it is: a right that is
		// missing, or a trigger, fails it while the refresh token is good.
		read: text("SELECT c.clock, CASE WHEN {committed} THEN 1 ELSE 0 END, COALESCE(t.nonce, ''), COALESCE(t.owner, ''), COALESCE(t.version, -1)," +
			" CASE WHEN t.lease_until <= {now} THEN 1 ELSE 0 END, t.grant_data" +
			" FROM (SELECT {clock} AS clock) c LEFT JOIN {table} t ON t.key_hash = ?"),
		place: text("INSERT INTO {table} (key_hash, grant_key, version, nonce, owner, lease_until)" +
			" VALUES (?, ?, 0, '', ?, CASE WHEN {clock} <= ? THEN {later} ELSE {now} END)" + g.yielding),
		take: text("UPDATE {table} SET member_id = member_id, domain = domain, expiry = expiry, grant_data = grant_data, nonce = nonce, version = version," +
			" updated_at = updated_at, owner = ?, lease_until = {later} WHERE key_hash = ? AND nonce = ? AND version = ? AND owner = ?" +
			" AND (owner = '' OR owner = ? OR lease_until <= {now}) AND {clock} <= ? AND {committed}"),
		release: text("UPDATE {table} SET owner = '' WHERE key_hash = ? AND owner = ?"),
		unplace: text("DELETE FROM {table} WHERE key_hash = ? AND owner = ? AND nonce = ''"),

		// A save: the fence decides, the owner does not.
		save: text("UPDATE {table} SET member_id = ?, domain = ?, expiry = {time}, grant_data = ?, nonce = ?, version = version + 1, updated_at = {now}," +
			" owner = CASE WHEN owner = ? THEN '' ELSE owner END WHERE key_hash = ? AND nonce = ? AND {committed}"),
		insert: text("INSERT INTO {table} (member_id, domain, expiry, grant_data, nonce, version, updated_at, owner, lease_until, key_hash, grant_key)" +
			" VALUES (?, ?, {time}, ?, ?, 1, {now}, '', {now}, ?, ?)" + g.yielding),
		remove: text("DELETE FROM {table} WHERE key_hash = ? AND nonce = ? AND {committed}"),
		fence: text("SELECT CASE WHEN {committed} THEN 1 ELSE 0 END, CASE WHEN t.key_hash IS NULL THEN 0 ELSE 1 END, COALESCE(t.nonce, '')" +
			" FROM (SELECT 1 AS one) c LEFT JOIN {table} t ON t.key_hash = ?"),

		// The fence of a deleted grant tells it from the others, unread.
		keys: text("SELECT key_hash, grant_key FROM {table} WHERE key_hash > ? AND nonce <> '' AND nonce NOT LIKE 'deleted-%' ORDER BY key_hash LIMIT " + strconv.Itoa(pageSize)),
	}, nil
}

// parameters numbers them for PostgreSQL.
func (g grammar) parameters(s string) string {
	if g.name != PostgreSQL.String() {
		return s
	}
	var b strings.Builder
	n := 0
	for _, c := range []byte(s) {
		if c != '?' {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}
