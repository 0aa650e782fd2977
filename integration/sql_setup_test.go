package integration

import (
	"database/sql"
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setuptest"
	"github.com/b24go/b24oauth/sqlstore"
)

// calls are those of a Store, and of a Config on it, that ask the database.
var calls = setuptest.Calls(theKey)

var (
	writing = []string{"Update", "Save", "Delete"}
	each    = slices.Collect(maps.Keys(calls))
)

// wantSetup checks that the methods say that this does not pass, and what has to
// be done.
func wantSetup(t *testing.T, s *sqlstore.Store, advice string, methods ...string) {
	t.Helper()
	config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: s}
	for _, method := range methods {
		err := calls[method](t.Context(), config)
		if !errors.Is(err, b24oauth.ErrMisconfigured) || errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s = %v; want ErrMisconfigured, and %q", method, err, advice)
		}
	}
}

func TestMissingTableIsMisconfiguredAndNamed(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.on(d.pool(t))
		s.Table = d.Table + "_missing"
		wantSetup(t, s, "CreateTable", each...)
		wantSetup(t, s, s.Table, each...)
		s = d.on(d.pool(t))
		s.Table = "nowhere_at_all." + d.Table
		for _, method := range each {
			if err := calls[method](t.Context(), &b24oauth.Config{ClientID: "id", ClientSecret: "secret", TokenURL: "http://127.0.0.1:1/", Store: s}); !errors.Is(err, b24oauth.ErrMisconfigured) {
				t.Errorf("in a schema that is missing, %s = %v; want ErrMisconfigured", method, err)
			}
		}
		if err := s.CreateTable(t.Context()); !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("CreateTable in a schema that is missing = %v; want ErrMisconfigured", err)
		}
	})
}

func TestWrongDialectIsMisconfigured(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		put(t, d.on(d.pool(t)), theKey, 1)
		for _, wrong := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MySQL, sqlstore.SQLite} {
			if wrong == d.Dialect {
				continue
			}
			t.Run("given "+wrong.String(), func(t *testing.T) {
				s := sqlstore.New(d.pool(t), wrong)
				s.Table = d.Table
				wantSetup(t, s, "the Dialect given to New is that of this database", writing...)
				wantSetup(t, s, d.Dialect.String(), writing...)
			})
		}
	})
}

// misconfigurations are of a table with a grant in it.
var misconfigurations = map[sqlstore.Dialect]map[string]struct {
	byHand  []string
	setting string
	advice  string
	methods []string
}{
	sqlstore.PostgreSQL: {
		"no right to read":       {byHand: []string{"REVOKE SELECT ON {table} FROM CURRENT_USER"}, advice: "grant the program's user", methods: each},
		"no right to update":     {byHand: []string{"REVOKE UPDATE ON {table} FROM CURRENT_USER"}, advice: "grant the program's user", methods: writing},
		"no right to insert":     {byHand: []string{"DELETE FROM {table}", "REVOKE INSERT ON {table} FROM CURRENT_USER"}, advice: "grant the program's user", methods: []string{"Update", "Save"}},
		"a column is missing":    {byHand: []string{"ALTER TABLE {table} DROP COLUMN grant_data"}, advice: "documentation", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"a column has no type":   {byHand: []string{"ALTER TABLE {table} ALTER version TYPE TEXT"}, advice: "{table}", methods: writing},
		"no primary key":         {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} DROP CONSTRAINT {table}_pkey"}, advice: "{table}", methods: []string{"Update", "Save"}},
		"one more column":        {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} ADD more TEXT NOT NULL"}, advice: "{table}", methods: []string{"Update", "Save"}},
		"a generated column":     {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain VARCHAR(255) GENERATED ALWAYS AS (member_id) STORED"}, advice: "{table}", methods: writing},
		"a narrow column":        {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} ALTER owner TYPE VARCHAR(3)"}, advice: "{table}", methods: []string{"Update", "Save"}},
		"a damaged row":          {byHand: []string{"UPDATE {table} SET grant_data = 'none'"}, advice: "not usable", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"a row of somebody else": {byHand: []string{"UPDATE {table} SET grant_key = 'another'"}, advice: "no row of this Store", methods: []string{"Keys"}},
	},
	sqlstore.MySQL: {
		"a column is missing":    {byHand: []string{"ALTER TABLE {table} DROP COLUMN grant_data"}, advice: "documentation", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"one more column":        {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} ADD more INT NOT NULL"}, setting: "sql_mode=%27STRICT_ALL_TABLES%27", advice: "{table}", methods: []string{"Update", "Save"}},
		"a generated column":     {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain VARCHAR(255) AS (member_id)"}, advice: "{table}", methods: writing},
		"a narrow column":        {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} MODIFY owner VARCHAR(3) NOT NULL"}, setting: "sql_mode=%27STRICT_ALL_TABLES%27", advice: "{table}", methods: []string{"Update", "Save"}},
		"too narrow for a grant": {byHand: []string{"ALTER TABLE {table} MODIFY grant_data VARBINARY(1000)"}, advice: "MEDIUMBLOB", methods: writing},
		"no autocommit":          {setting: "autocommit=0", advice: "autocommit=0", methods: writing},
		"a damaged row":          {byHand: []string{"UPDATE {table} SET grant_data = 'none'"}, advice: "not usable", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"a row of somebody else": {byHand: []string{"UPDATE {table} SET grant_key = 'another'"}, advice: "no row of this Store", methods: []string{"Keys"}},
	},
	sqlstore.SQLite: {
		"a read-only file":       {setting: "mode=ro", advice: "write to the file", methods: writing},
		"a read-only session":    {setting: "_pragma=query_only(1)", advice: "query_only", methods: writing},
		"a column is missing":    {byHand: []string{"ALTER TABLE {table} DROP COLUMN grant_data"}, advice: "documentation", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"one more column":        {byHand: []string{"DELETE FROM {table}", "ALTER TABLE {table} RENAME TO {table}_was", "CREATE TABLE {table} AS SELECT * FROM {table}_was", "DROP TABLE {table}_was"}, advice: "{table}", methods: []string{"Update", "Save"}},
		"a generated column":     {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain TEXT AS (member_id)"}, advice: "{table}", methods: writing},
		"a damaged row":          {byHand: []string{"UPDATE {table} SET grant_data = 'none'"}, advice: "not usable", methods: []string{"Load", "Update", "Token", "Grant", "Save", "Delete"}},
		"a row of somebody else": {byHand: []string{"UPDATE {table} SET grant_key = 'another'"}, advice: "no row of this Store", methods: []string{"Keys"}},
	},
}

func TestWhatIsWrongWithATableOrARightIsMisconfigured(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		for name, c := range misconfigurations[d.Dialect] {
			t.Run(name, func(t *testing.T) {
				d := d.fresh(t)
				db := d.pool(t)
				put(t, d.on(db), theKey, 1)
				for _, statement := range c.byHand {
					d.byHand(t, db, statement)
				}
				if c.setting != "" {
					d.DSN += "&" + c.setting
				}
				wantSetup(t, d.on(d.pool(t)), strings.ReplaceAll(c.advice, "{table}", d.Table), c.methods...)
			})
		}
	})
}

func TestUserAndDatabaseThatTheServerDoesNotKnowAreMisconfigured(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		for name, dsn := range unknowns(t, d) {
			t.Run(name, func(t *testing.T) {
				d := d
				d.DSN = dsn
				db, err := sql.Open(d.Driver, d.DSN)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				wantSetup(t, d.on(db), "check", each...)
			})
		}
	})
}

// unknowns returns addresses of what is not there.
func unknowns(t *testing.T, d database) map[string]string {
	t.Helper()
	switch d.Dialect {
	case sqlstore.PostgreSQL:
		u, err := url.Parse(d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		user, base := *u, *u
		user.User, base.Path = url.UserPassword("b24oauth_nobody", "wrong"), "/b24oauth_nowhere"
		return map[string]string{"an unknown user": user.String(), "an unknown database": base.String()}
	case sqlstore.MySQL:
		account, rest, _ := strings.Cut(d.DSN, "@")
		name, _, _ := strings.Cut(account, ":")
		address, params, _ := strings.Cut(rest, "?")
		address, _, _ = strings.Cut(address, "/")
		return map[string]string{
			"a wrong password":    name + ":wrong@" + rest,
			"an unknown database": account + "@" + address + "/b24oauth_nowhere?" + params,
			"no database":         account + "@" + address + "/?" + params,
		}
	}
	return map[string]string{
		"a folder that is missing": "file:" + filepath.Join(t.TempDir(), "missing", "grants.db"),
		"a folder":                 "file:" + t.TempDir(),
	}
}

func TestFileThatIsNoDatabaseIsMisconfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(file, []byte(strings.Repeat("this is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := database{Dialect: sqlstore.SQLite, Driver: "sqlite", DSN: "file:" + file, Table: "grants"}
	wantSetup(t, d.on(d.pool(t)), "restore", each...)
}

// What a failover, a restart or a network can cause heals without anybody.
func TestWhatMayPassIsNotMisconfigured(t *testing.T) {
	passing := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "&default_transaction_read_only=on", sqlstore.MySQL: "&tx_read_only=1"}
	onEach(t, func(t *testing.T, d database) {
		if passing[d.Dialect] == "" {
			t.Skip("a file that is read-only stays so")
		}
		readOnly, away := d, d
		readOnly.DSN += passing[d.Dialect]
		away.DSN = strings.NewReplacer(":5432", ":1", ":3306", ":1").Replace(d.DSN)
		tests := map[string]database{"read-only": readOnly}
		if away.DSN != d.DSN {
			tests["away"] = away
		}
		for name, d := range tests {
			if err := d.on(d.pool(t)).Update(t.Context(), theKey, returning(numbered(1), nil)); err == nil || errors.Is(err, b24oauth.ErrMisconfigured) {
				t.Errorf("%s: %v; want an error that passes", name, err)
			}
		}
	})
}
