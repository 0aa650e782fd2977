package integration

import (
	"crypto/rand"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
	"github.com/b24go/b24oauth/storetest"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// database is where a table of grants can be. Its fields are exported for the
// processes that a test starts.
type database struct {
	Dialect     sqlstore.Dialect
	Driver, DSN string
	Table       string
}

var sqlDatabases = []struct {
	dialect          sqlstore.Dialect
	driver, variable string
}{
	{sqlstore.PostgreSQL, "pgx", "B24OAUTH_TEST_POSTGRES"},
	{sqlstore.MySQL, "mysql", "B24OAUTH_TEST_MYSQL"},
	{sqlstore.SQLite, "sqlite", ""},
}

// onEach runs a test on each database that there is, on a table of its own.
func onEach(t *testing.T, test func(t *testing.T, d database)) {
	for _, each := range sqlDatabases {
		t.Run(each.dialect.String(), func(t *testing.T) {
			d := database{Dialect: each.dialect, Driver: each.driver}
			if each.variable != "" {
				if d.DSN = os.Getenv(each.variable); d.DSN == "" {
					t.Skipf("%s is not set; eval \"$(scripts/services)\" sets it", each.variable)
				}
			}
			test(t, d.fresh(t))
		})
	}
}

// fresh returns the database with a new table, which is dropped in the end.
func (d database) fresh(t testing.TB) database {
	t.Helper()
	if d.Dialect == sqlstore.SQLite {
		d.DSN = "file:" + filepath.Join(t.TempDir(), "grants.db") +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	}
	d.Table = "b24oauth_test_" + strings.ToLower(rand.Text())
	db := d.pool(t)
	t.Cleanup(func() {
		if _, err := db.Exec("DROP TABLE " + d.Table); err != nil {
			t.Error(err)
		}
	})
	if err := d.on(db).CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// connections is what a pool may open.
const connections = 10

// pool opens the database anew.
func (d database) pool(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.Driver, d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

func (d database) on(db *sql.DB) *sqlstore.Store {
	s := sqlstore.New(db, d.Dialect)
	s.Table = d.Table
	return s
}

// leaser is a [storetest.ShortLeaser].
type leaser struct {
	*sqlstore.Store
	database database
	db       *sql.DB
}

func (l leaser) ShortLease(d time.Duration) b24oauth.Store {
	s := l.database.on(l.db)
	s.Lease = d
	return s
}

func TestSQLStorePassesStoretest(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
			d := d.fresh(t)
			return func() b24oauth.Store {
				db := d.pool(t)
				return leaser{d.on(db), d, db}
			}
		})
	})
}
