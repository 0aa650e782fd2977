// Package stores opens the Store that a URL names. A URL stands in the shell's
// history, in the list of processes and in logs, so one with a password in it is
// refused: that comes by itself.
package stores

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/b24go/b24oauth/sealedstore"
	"github.com/b24go/b24oauth/sqlstore"
)

// Forms lists the URLs that Open takes, for an error or a help text.
const Forms = "file:DIR, postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, sqlite:FILE or redis://HOST/NUMBER"

// Opened is a Store with what belongs to it.
type Opened struct {
	b24oauth.Lister
	CreateTable func(context.Context) error // nil: it needs none
	Close       func() error
}

// A URLError says what is wrong with a Store's URL, without a secret in it.
type URLError struct{ error }

func (e *URLError) Unwrap() error { return e.error }

func badURL(format string, args ...any) error { return &URLError{fmt.Errorf(format, args...)} }

// Open returns the Store at a URL of one of the Forms. The password, "" for none,
// is that of a database's user. Open connects to nothing: the first use does. The
// error is a *URLError if the URL is wrong; it quotes nothing of what may be another
// form of address, with a password in it.
func Open(address, password string) (*Opened, error) {
	scheme, rest, found := strings.Cut(address, ":")
	if !found {
		return nil, badURL("the Store is no URL: give one like %s", Forms)
	}
	switch scheme {
	case "file":
		return openFiles(rest)
	case "sqlite":
		return openSQLite(rest)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, badURL("the Store's URL cannot be read: give one like %s", Forms) // the error quotes it whole
	}
	if hasPassword(u) {
		return nil, badURL("the Store's URL has a password in it, where every process of this machine can read it: set %s, or use --store-password-file", PasswordVariable)
	}
	switch scheme {
	case "postgres", "postgresql":
		return openPostgres(u, password)
	case "mysql":
		return openMySQL(u, password)
	case "redis", "rediss":
		return openRedis(u, password)
	}
	return nil, badURL("the Store's URL is of no known kind: give one like %s", Forms)
}

// PasswordVariable names the environment's variable with the database's password.
const PasswordVariable = "B24OAUTH_STORE_PASSWORD"

// hasPassword reports whether a secret stands in the URL, in any of the places that
// drivers read one from.
func hasPassword(u *url.URL) bool {
	if _, ok := u.User.Password(); ok {
		return true
	}
	for name := range u.Query() {
		if name = strings.ToLower(name); strings.Contains(name, "password") && name != "sslpasswordfile" && name != "passfile" {
			return true
		}
	}
	return false
}

func openFiles(dir string) (*Opened, error) {
	if dir == "" || strings.HasPrefix(dir, "//") {
		return nil, badURL("the Store's URL names no directory: write file:DIR, such as file:/var/lib/example/grants")
	}
	s, err := filestore.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Opened{Lister: s, Close: func() error { return nil }}, nil
}

// openSQLite opens the database in a file as package sqlstore asks for.
func openSQLite(file string) (*Opened, error) {
	if file == "" || strings.HasPrefix(file, "//") {
		return nil, badURL("the Store's URL names no file: write sqlite:FILE, such as sqlite:/var/lib/example/grants.db")
	}
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: pragmas.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	return openSQL(db, sqlstore.SQLite), nil
}

func openPostgres(u *url.URL, password string) (*Opened, error) {
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, badURL("the Store's URL is none of PostgreSQL: %w", err) // there is no password in it
	}
	if password != "" { // else PGPASSWORD's or that of a passfile
		config.Password = password
	}
	return openSQL(stdlib.OpenDB(*config), sqlstore.PostgreSQL), nil
}

func openMySQL(u *url.URL, password string) (*Opened, error) {
	dsn := fmt.Sprintf("/%s?%s", url.PathEscape(strings.TrimPrefix(u.Path, "/")), u.RawQuery)
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, badURL("the Store's URL is none of MySQL: %w", err)
	}
	config.User, config.Passwd = u.User.Username(), password
	config.Net, config.Addr = "tcp", u.Host
	if socket := config.Params["socket"]; socket != "" {
		config.Net, config.Addr = "unix", socket
		delete(config.Params, "socket")
	} else if u.Port() == "" {
		config.Addr = u.Hostname() + ":3306"
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, badURL("the Store's URL is none of MySQL: %w", err)
	}
	return openSQL(sql.OpenDB(connector), sqlstore.MySQL), nil
}

func openSQL(db *sql.DB, d sqlstore.Dialect) *Opened {
	db.SetMaxOpenConns(4)
	s := sqlstore.New(db, d)
	return &Opened{Lister: s, CreateTable: s.CreateTable, Close: db.Close}
}

// NeedsTable reports whether an error of the Store is that there is no table, by its
// words: it says what to do about it.
func NeedsTable(err error) bool {
	return strings.Contains(err.Error(), "make the table b24oauth_grants with Store.CreateTable")
}

func openRedis(u *url.URL, password string) (*Opened, error) {
	options, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, badURL("the Store's URL is none of Redis: %w", err)
	}
	options.Password = password
	c := redis.NewClient(options)
	return &Opened{Lister: redisstore.New(c), Close: c.Close}, nil
}

// Seal returns a Store over that of o whose tokens are encrypted by the keys in a
// file: each line is 32 bytes as 64 hexadecimal digits or in base64, of which the
// first writes and all read.
func (o *Opened) Seal(file string) error {
	keys, err := ReadKeys(file)
	if err != nil {
		return err
	}
	o.Lister = sealedstore.New(o.Lister, keys[0], keys[1:]...)
	return nil
}

// ReadKeys reads a file of keys, as Seal says.
func ReadKeys(file string) ([]cipher.AEAD, error) {
	const make = "make one with: openssl rand -hex 32"
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the file of --seal-key-file: %w: %s > %s", err, make, file)
	}
	var keys []cipher.AEAD
	for n, line := range slices.Collect(strings.Lines(string(data))) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil {
			key, err = base64.StdEncoding.DecodeString(line)
		}
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("line %d of %s is no key of 32 bytes, as 64 hexadecimal digits or in base64: %s", n+1, file, make)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, aead)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the file %s of --seal-key-file is empty: %s", file, make)
	}
	return keys, nil
}

// Default is the Store in the user's data directory.
func Default() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return "file:" + filepath.Join(dir, "b24oauth"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("the user's data directory is not known (%w): name the Store, as in --store file:DIR", err)
	}
	return "file:" + filepath.Join(home, dataDir, "b24oauth"), nil
}
