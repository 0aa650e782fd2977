package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// The tests that need a database are in the module integration.

// nowhere is a database that is never reached.
type nowhere struct{}

var errNowhere = errors.New("no database here")

func (nowhere) Connect(context.Context) (driver.Conn, error) { return nil, errNowhere }
func (nowhere) Driver() driver.Driver                        { return nil }

var all = []Dialect{PostgreSQL, MySQL, SQLite}

func TestOnlyATableNameIsATable(t *testing.T) {
	name63 := strings.Repeat("n", 63)
	for table, ok := range map[string]bool{
		"": true, "grants": true, "_g1": true, "Schema_1.Grants": true, name63 + "." + name63: true,
		" ": false, "a b": false, "a;b": false, "a.b.c": false, ".a": false, "a.": false, "1a": false, "a-b": false, "a\n": false,
		`"a"`: false, "`a`": false, "a/*": false, "a--": false, "grants WHERE 1=1": false, "\u0430": false, "a$": false, name63 + "n": false,
	} {
		for _, d := range all {
			s := New(sql.OpenDB(nowhere{}), d)
			s.Table = table
			for what, err := range everyMethod(s) {
				if told := strings.Contains(err.Error(), "is no table name"); told == ok || errors.Is(err, context.Canceled) != ok {
					t.Errorf("%v, Table %q: %s = %v", d, table, what, err)
				}
			}
		}
	}
}

// everyMethod returns the errors of a Store whose context has ended.
func everyMethod(s *Store) map[string]error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, load := s.Load(ctx, "key")
	errs := map[string]error{"CreateTable": s.CreateTable(ctx), "Load": load, "Update": s.Update(ctx, "key", nil)}
	for _, err := range s.Keys(ctx) {
		errs["Keys"] = err
	}
	return errs
}

func TestEachMisuseIsToldByEveryMethod(t *testing.T) {
	db := sql.OpenDB(nowhere{})
	negative := New(db, SQLite)
	negative.Lease = -1
	for want, s := range map[string]*Store{
		"unknown Dialect(0)": New(db, 0),
		"unknown Dialect(9)": New(db, 9),
		"no database":        New(nil, MySQL),
		"Lease is -1ns":      negative,
	} {
		for what, err := range everyMethod(s) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s = %v; want it to tell %q", what, err, want)
			}
		}
	}
	s := New(db, SQLite)
	for key, want := range map[string]string{"": "the key is empty", strings.Repeat("k", longestKey+1): "choose a shorter one"} {
		if _, err := s.Load(t.Context(), key); !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v; want it to tell %q", err, want)
		}
		if err := s.Update(t.Context(), key, nil); !strings.Contains(err.Error(), want) {
			t.Errorf("Update = %v; want it to tell %q", err, want)
		}
	}
}

func TestTheDocumentedSchemaIsTheOneThatIsMade(t *testing.T) {
	source, err := os.ReadFile("sqlstore.go")
	if err != nil {
		t.Fatal(err)
	}
	doc := strings.ReplaceAll(string(source), "\n//\t", "\n")
	for _, d := range all {
		if !strings.Contains(doc, "\n"+dialects[d].schema+"\n//\n") {
			t.Errorf("the package comment lacks the schema of %v:\n%s", d, dialects[d].schema)
		}
		texts, err := d.statements("other.grants")
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(dialects[d].schema, "b24oauth_grants", "other.grants", 1); texts.create != want {
			t.Errorf("%v: CreateTable runs %s", d, texts.create)
		}
	}
}

func TestStatementsSpeakTheirDialect(t *testing.T) {
	marker := regexp.MustCompile(`\$\d+|\?`)
	for d, want := range map[Dialect]struct{ parameters, clock string }{
		PostgreSQL: {"$1 $2 $3 $4 $5 $6 $7 $8", "clock_timestamp()"},
		MySQL:      {"? ? ? ? ? ? ? ?", "UTC_TIMESTAMP(6)"},
		SQLite:     {"? ? ? ? ? ? ? ?", "strftime('%Y-%m-%d %H:%M:%f', 'now')"},
	} {
		texts, err := d.statements("t")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(marker.FindAllString(texts.take, -1), " "); got != want.parameters {
			t.Errorf("%v: the parameters are %s; want %s", d, got, want.parameters)
		}
		for _, s := range []string{texts.read, texts.place, texts.take, texts.save, texts.insert} {
			if !strings.Contains(s, want.clock) || strings.ContainsAny(s, "{}") {
				t.Errorf("%v: not by the database's clock %s: %s", d, want.clock, s)
			}
		}
	}
}

func TestAReadableKeyIsStillThatKey(t *testing.T) {
	for key, want := range map[string]string{
		"example.bitrix24.com": "example.bitrix24.com",
		"a/b c@d_E-1":          "a/b c@d_E-1",
		"\u041f\u043e\u0440\u0442\u0430\u043b \u30dd \U0001f511": "\u041f\u043e\u0440\u0442\u0430\u043b \u30dd \U0001f511",
		"100%": "100%25", "%41": "%2541", "\x00": "%00", "\n\x7f": "%0a%7f", "\xff": "%ff", "\xc3(": "%c3(", "\xed\xa0\x80": "%ed%a0%80",
		"\ufffd": "\ufffd", "\u202e": "%e2%80%ae", "\ufeff": "%ef%bb%bf",
	} {
		if got := escape(key); got != want {
			t.Errorf("escape(%q) = %q; want %q", key, got, want)
		}
		if got, ok := unescape(want); got != key || !ok {
			t.Errorf("unescape(%q) = %q, %t; want %q", want, got, ok, key)
		}
	}
	for _, s := range []string{"%", "%2", "a%zz", "%%"} {
		if got, ok := unescape(s); ok {
			t.Errorf("unescape(%q) = %q; want it refused", s, got)
		}
	}
}

// What drivers return, or look like.
type (
	sqlStateError string
	codeError     int
)

func (e sqlStateError) Error() string    { return "ERROR: " + string(e) }
func (e sqlStateError) SQLState() string { return string(e) }
func (e codeError) Error() string        { return "SQL logic error" }
func (e codeError) Code() int            { return int(e) }

func TestErrorsAreToldApart(t *testing.T) {
	const busy, away, lasting = "busy", "away", "lasting"
	for _, c := range []struct {
		dialect Dialect
		err     error
		want    string
	}{
		{PostgreSQL, sqlStateError("40001"), busy},
		{PostgreSQL, sqlStateError("40P01"), busy},
		{PostgreSQL, sqlStateError("57P01"), away},
		{PostgreSQL, sqlStateError("53300"), away},
		{PostgreSQL, sqlStateError("08006"), away},
		{PostgreSQL, sqlStateError("57014"), away},
		{PostgreSQL, sqlStateError("58030"), away},
		{PostgreSQL, sqlStateError("25006"), away},
		{PostgreSQL, sqlStateError("42P01"), lasting},
		{PostgreSQL, sqlStateError("42501"), lasting},
		{MySQL, errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), busy},
		{MySQL, errors.New("Error 1205 (HY000): Lock wait timeout exceeded"), busy},
		{MySQL, errors.New("Error 1062 (23000): Duplicate entry"), busy},
		{MySQL, errors.New("Error 1040: Too many connections"), away},
		{MySQL, errors.New("Error 1146 (42S02): Table 'test.t' doesn't exist"), lasting},
		{MySQL, errors.New("Error 1969 (70100): Query execution was interrupted (max_statement_time exceeded)"), away},
		{MySQL, errors.New("Error 3024 (HY000): Query execution was interrupted, maximum statement execution time exceeded"), away},
		{MySQL, errors.New("Error 1317 (70100): Query execution was interrupted"), away},
		{MySQL, errors.New("Error 1290 (HY000): The MariaDB server is running with the --read-only option"), away},
		{MySQL, errors.New("Error 1114 (HY000): The table 't' is full"), away},
		{MySQL, errors.New("invalid connection"), away},
		{SQLite, codeError(5), busy},
		{SQLite, codeError(5 | 2<<8), busy}, // SQLITE_BUSY_SNAPSHOT
		{SQLite, codeError(6), busy},
		{SQLite, errors.New("database is locked"), busy},
		{SQLite, codeError(1), lasting},
		{SQLite, codeError(13), away},
		{SQLite, codeError(8), lasting},
		{PostgreSQL, driver.ErrBadConn, away},
		{SQLite, context.DeadlineExceeded, away},
		{MySQL, sql.ErrNoRows, lasting},
	} {
		err := fmt.Errorf("a driver around it: %w", c.err)
		got := away
		switch {
		case c.dialect.busy(err):
			got = busy
		case c.dialect.lasting(err):
			got = lasting
		}
		if got != c.want || c.dialect.busy(err) && c.dialect.lasting(err) {
			t.Errorf("%v: %v is %s; want %s", c.dialect, c.err, got, c.want)
		}
	}
}

func TestATimeIsOneThatEveryDatabaseHolds(t *testing.T) {
	zone := time.FixedZone("", 5*60*60)
	for _, c := range []struct {
		t    time.Time
		want any
	}{
		{time.Time{}, nil},
		{time.Date(2026, 10, 25, 2, 30, 0, 123456789, zone), "2026-10-24 21:30:00.123456"},
		{time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), nil},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), nil},
	} {
		for _, d := range all {
			want := c.want
			if want != nil && d == PostgreSQL {
				want = want.(string) + "+00"
			}
			if got := timestamp(d, c.t); got != want {
				t.Errorf("%v: timestamp(%v) = %v; want %v", d, c.t, got, want)
			}
		}
	}
}

func TestADatabaseThatIsDownIsNotWaitedFor(t *testing.T) {
	s := New(sql.OpenDB(nowhere{}), PostgreSQL)
	err := s.Update(t.Context(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called")
		return nil, nil
	})
	if !errors.Is(err, errNowhere) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update = %v; want that of the connection", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ctx, "key"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with a cancelled context = %v", err)
	}
}

// connector is a driver's, with the password in plain sight.
type connector struct {
	nowhere
	DSN string
}

func TestStoreDoesNotPrintTheDatabasesPassword(t *testing.T) {
	s := New(sql.OpenDB(connector{DSN: "postgres://user:s3cret@127.0.0.1/db"}), MySQL)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got, want := fmt.Sprintf(verb, s), `sqlstore.Store{dialect=MySQL table="b24oauth_grants"}`; got != want {
			t.Errorf("%s: %s, want %s", verb, got, want)
		}
	}
	if got := fmt.Sprint((*Store)(nil)); got != "<nil>" {
		t.Errorf("no Store prints as %s", got)
	}
}
