package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

// A refusal is something that keeps the Store from saving.
type refusal struct {
	setting string   // of the connection
	byHand  []string // statements of the table's owner
	advice  string   // what the error has to say
	byRow   bool     // it shows where there is a row
}

var refusals = map[sqlstore.Dialect]map[string]refusal{
	sqlstore.PostgreSQL: {
		"a read-only session":            {setting: "default_transaction_read_only=on", advice: "connect to the primary"},
		"no right but to read":           {byHand: []string{"REVOKE INSERT, UPDATE, DELETE ON {table} FROM CURRENT_USER"}, advice: "grant the program's user"},
		"no right to update":             {byHand: []string{"REVOKE UPDATE ON {table} FROM CURRENT_USER"}, advice: "grant the program's user"},
		"the right to update a few":      {byHand: []string{"REVOKE UPDATE ON {table} FROM CURRENT_USER", "GRANT UPDATE (owner, lease_until) ON {table} TO CURRENT_USER"}, advice: "grant the program's user"},
		"the right to update all but it": {byHand: []string{"REVOKE UPDATE ON {table} FROM CURRENT_USER", "GRANT UPDATE (member_id, domain, expiry, nonce, version, updated_at, owner, lease_until) ON {table} TO CURRENT_USER"}, advice: "grant the program's user"},
		"a generated column":             {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain VARCHAR(255) GENERATED ALWAYS AS (member_id) STORED"}, advice: "domain"},
	},
	sqlstore.MySQL: {
		"no autocommit":            {setting: "autocommit=0", advice: "take autocommit=0 out of the DSN"},
		"a read-only session":      {setting: "tx_read_only=1", advice: "connect to the primary"},
		"a column of a view alone": {byHand: []string{"RENAME TABLE {table} TO {table}_beneath", "CREATE VIEW {table} AS SELECT key_hash, grant_key, member_id, domain, expiry, version, updated_at, nonce, owner, lease_until, CONCAT(grant_data) AS grant_data FROM {table}_beneath"}, advice: "grant_data"},
		"a generated column":       {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain VARCHAR(255) AS (member_id)"}, advice: "domain", byRow: true},
		"too narrow a column":      {byHand: []string{"ALTER TABLE {table} MODIFY grant_data VARBINARY(1000)"}, advice: "make it a MEDIUMBLOB"},
		"too narrow, and cut off":  {setting: "sql_mode=%27%27", byHand: []string{"ALTER TABLE {table} MODIFY grant_data VARBINARY(1000)"}, advice: "make it a MEDIUMBLOB"},
	},
	sqlstore.SQLite: {
		"a read-only session": {setting: "_pragma=query_only(1)", advice: "set no query_only"},
		"a read-only file":    {setting: "mode=ro", advice: "let the program's user write"},
		"a trigger":           {byHand: []string{"CREATE TRIGGER {table}_t BEFORE UPDATE OF grant_data ON {table} BEGIN SELECT RAISE(ABORT, 'not in this house'); END"}, advice: "not in this house", byRow: true},
		"a generated column":  {byHand: []string{"ALTER TABLE {table} DROP COLUMN domain", "ALTER TABLE {table} ADD domain TEXT AS (member_id)"}, advice: "domain"},
	},
}

func TestWhatCannotBeSavedIsToldBeforeTheExchange(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		for name, r := range refusals[d.Dialect] {
			for _, stored := range []int64{0, 1} {
				if r.byRow && stored == 0 {
					continue
				}
				t.Run(name+map[int64]string{0: ", no grant", 1: ", a grant"}[stored], func(t *testing.T) {
					d := d.fresh(t)
					db := d.pool(t)
					if stored != 0 {
						put(t, d.on(db), theKey, stored)
					}
					for _, statement := range r.byHand {
						d.byHand(t, db, statement)
					}
					if strings.Contains(strings.Join(r.byHand, ""), "VIEW") {
						t.Cleanup(func() {
							d.byHand(t, db, "DROP VIEW {table}")
							d.byHand(t, db, "RENAME TABLE {table}_beneath TO {table}")
						})
					}
					refused := d
					if r.setting != "" {
						refused.DSN += "&" + r.setting
					}
					err := refused.on(refused.pool(t)).Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
						t.Error("fn was called although nothing can be saved")
						return nil, nil
					})
					if err == nil || errors.Is(err, b24oauth.ErrConflict) || !strings.Contains(err.Error(), r.advice) {
						t.Errorf("Update = %v; want it to say %q", err, r.advice)
					}
				})
			}
		}
	})
}

// A connection of the pool that somebody has taken out of autocommit mode must
// not roll back what it was given to save.
func TestASaveIsCommittedWhateverConnectionItMeets(t *testing.T) {
	for name, result := range map[string]error{"a save": nil, "a removal": b24oauth.ErrDelete} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				if d.Dialect != sqlstore.MySQL {
					t.Skip("has no connections without autocommit")
				}
				db := d.pool(t)
				s, other := d.on(db), d.on(d.pool(t))
				put(t, other, theKey, 1)
				err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					d.byHand(t, db, "SET autocommit = 0") // on the connection that the save will be given
					return numbered(2), result
				})
				if err != nil {
					t.Errorf("Update = %v", err)
				}
				want := map[error]int64{nil: 2, b24oauth.ErrDelete: 0}[result]
				if n := number(t, other, theKey); n != want {
					t.Errorf("grant %d is stored; want %d", n, want)
				}
			})
		})
	}
}

// A database that ends statements after a time ends the save of a pair too,
// behind another's lock.
func TestASaveThatTheDatabaseEndsIsRepeated(t *testing.T) {
	limits := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "statement_timeout=50", sqlstore.MySQL: "max_statement_time=0.05", sqlstore.SQLite: "_pragma=busy_timeout(50)",
	}
	onEach(t, func(t *testing.T, d database) {
		limited := d
		limited.DSN += "&" + limits[d.Dialect]
		if d.Dialect == sqlstore.SQLite { // of two settings the first counts
			limited.DSN = strings.Replace(limited.DSN, "busy_timeout(10000)", "busy_timeout(50)", 1)
		}
		db := d.pool(t)
		s := limited.on(limited.pool(t))
		put(t, s, theKey, 1)
		unlocked := make(chan error, 1)
		err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec("UPDATE " + d.Table + " SET grant_key = grant_key"); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(400*time.Millisecond, func() { unlocked <- tx.Rollback() })
			return numbered(2), nil
		})
		if unlock := <-unlocked; err != nil || unlock != nil {
			t.Errorf("Update = %v, the end of the lock = %v", err, unlock)
		}
		if n := number(t, s, theKey); n != 2 {
			t.Errorf("grant %d is stored; want 2", n)
		}
	})
}
