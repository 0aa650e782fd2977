package integration

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
)

// poolSize is how many connections a process has: a database need not admit
// more than a hundred.
const poolSize = 5

// fleetStore is a Store that a fleet shares: a directory, a database or a
// Redis. Its fields are exported for the fleet's processes.
type fleetStore struct {
	Dir      string
	Database database
	Redis    string // URL
	Prefix   string // in Redis
	Lease    time.Duration

	// Via is the proxy in front of the database. Empty: the database itself.
	Via string
}

// fleetPlace is where a fleet's Store can be.
type fleetPlace struct {
	name, variable string // variable is empty if there is always one
	leased         bool
	make           func(t testing.TB, value string) fleetStore
}

func fleetPlaces() []fleetPlace {
	places := []fleetPlace{
		{name: "files", make: func(t testing.TB, _ string) fleetStore { return fleetStore{Dir: t.TempDir()} }},
		{name: "Redis", variable: "B24OAUTH_TEST_REDIS", leased: true, make: makeFleetRedis},
	}
	for _, each := range sqlDatabases {
		places = append(places, fleetPlace{
			name:     each.dialect.String(),
			variable: each.variable,
			leased:   true,
			make: func(t testing.TB, value string) fleetStore {
				return fleetStore{Database: database{Dialect: each.dialect, Driver: each.driver, DSN: value}.fresh(t)}
			},
		})
	}
	return places
}

// fresh returns an empty Store at the place, or skips the test.
func (p fleetPlace) fresh(t testing.TB) fleetStore {
	t.Helper()
	value := ""
	if p.variable != "" {
		if value = os.Getenv(p.variable); value == "" {
			t.Skipf("%s is not set; eval \"$(scripts/services)\" sets it", p.variable)
		}
	}
	return p.make(t, value)
}

func makeFleetRedis(t testing.TB, url string) fleetStore {
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	s := fleetStore{Redis: url, Prefix: "b24oauth-torture-" + rand.Text() + ":"}
	t.Cleanup(func() {
		c := redis.NewClient(o)
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for names := c.Scan(ctx, 0, s.Prefix+"*", 0).Iterator(); names.Next(ctx); {
			c.Del(ctx, names.Val())
		}
	})
	return s
}

// noRedisLog is for go-redis, which has one logger for all of a process.
type noRedisLog struct{}

func (noRedisLog) Printf(context.Context, string, ...any) {}

// open opens the Store, which is to be closed after its last use.
func (s fleetStore) open() (_ b24oauth.Store, close func() error, _ error) {
	switch {
	case s.Dir != "":
		store, err := filestore.Open(s.Dir)
		return store, func() error { return nil }, err
	case s.Redis != "":
		o, err := redis.ParseURL(s.Redis)
		if err != nil {
			return nil, nil, err
		}
		if s.Via != "" {
			o.Network, o.Addr = "tcp", s.Via
		}
		c := redis.NewClient(o)
		store := redisstore.New(c)
		store.Prefix, store.Lease = s.Prefix, s.Lease
		return store, c.Close, nil
	}
	db, err := s.pool()
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	store := s.Database.on(db)
	store.Lease = s.Lease
	return store, db.Close, nil
}

func (s fleetStore) pool() (*sql.DB, error) {
	d := s.Database
	if s.Via == "" {
		return sql.Open(d.Driver, d.DSN)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Via)
	}
	switch d.Driver {
	case "pgx":
		c, err := pgx.ParseConfig(d.DSN)
		if err != nil {
			return nil, err
		}
		c.DialFunc = dial
		return stdlib.OpenDB(*c), nil
	case "mysql":
		c, err := mysql.ParseDSN(d.DSN)
		if err != nil {
			return nil, err
		}
		c.DialFunc = dial
		c.Logger = new(mysql.NopLogger) // it would tell of every connection that the proxy ends
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(connector), nil
	}
	return nil, fmt.Errorf("nothing is known of a proxy for %s", d.Driver)
}

// address returns where the database listens; network is empty if it has no
// need to.
func (s fleetStore) address() (network, address string, err error) {
	switch {
	case s.Redis != "":
		o, err := redis.ParseURL(s.Redis)
		if err != nil {
			return "", "", err
		}
		return o.Network, o.Addr, nil
	case s.Database.Driver == "pgx":
		c, err := pgx.ParseConfig(s.Database.DSN)
		if err != nil {
			return "", "", err
		}
		network, address = pgconn.NetworkAddress(c.Host, c.Port)
		return network, address, nil
	case s.Database.Driver == "mysql":
		c, err := mysql.ParseDSN(s.Database.DSN)
		if err != nil {
			return "", "", err
		}
		return c.Net, c.Addr, nil
	}
	return "", "", nil
}
