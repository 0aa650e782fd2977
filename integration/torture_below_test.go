package integration

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/sqlstore"
	"github.com/redis/go-redis/v9"
)

// underside is a way to what a Store keeps that asks neither the Store nor for a
// lease, as a backup that is restored does not.
type underside struct {
	dir    string
	db     *sql.DB
	table  string
	sql    func(statement string) string
	redis  *redis.Client
	prefix string
}

// image is what is kept of a grant; the zero value if nothing is.
type image struct{ data, fence string }

func openBelow(t *testing.T, s fleetStore) *underside {
	t.Helper()
	switch {
	case s.Dir != "":
		return &underside{dir: s.Dir}
	case s.Redis != "":
		o, err := redis.ParseURL(s.Redis)
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return &underside{redis: c, prefix: s.Prefix}
	}
	db := s.Database.pool(t)
	statement := func(s string) string { return s }
	if s.Database.Dialect == sqlstore.PostgreSQL {
		statement = numberPlaces
	}
	return &underside{db: db, table: s.Database.Table, sql: statement}
}

// numberPlaces makes each ? a place as PostgreSQL has them.
func numberPlaces(statement string) string {
	var b strings.Builder
	n := 0
	for _, r := range statement {
		b.WriteRune(r)
		if r == '?' {
			n++
			b.WriteString(strconv.Itoa(n))
		}
	}
	return strings.ReplaceAll(b.String(), "?", "$")
}

// read returns what is kept of the grant.
func (b *underside) read(ctx context.Context, key string) (i image, err error) {
	switch {
	case b.dir != "":
		path, err := b.file(key)
		if err != nil || path == "" {
			return image{}, err
		}
		data, err := os.ReadFile(path)
		return image{data: string(data)}, err
	case b.redis != nil:
		values, err := b.redis.HMGet(ctx, b.name(key), "grant", "nonce").Result()
		if err != nil {
			return image{}, err
		}
		i.data, _ = values[0].(string)
		i.fence, _ = values[1].(string)
		return i, nil
	}
	hash := sha256.Sum256([]byte(key))
	err = b.db.QueryRowContext(ctx, b.sql("SELECT grant_data, nonce FROM "+b.table+" WHERE key_hash = ?"), hash[:]).Scan(&i.data, &i.fence)
	return i, err
}

// write puts what was kept before in the place of what is kept now.
func (b *underside) write(ctx context.Context, key string, i image) error {
	switch {
	case b.dir != "":
		path, err := b.file(key)
		if err != nil || path == "" {
			return err
		}
		restored := filepath.Join(b.dir, "backup")
		if err := os.WriteFile(restored, []byte(i.data), 0o600); err != nil {
			return err
		}
		return os.Rename(restored, path)
	case b.redis != nil:
		return b.redis.HSet(ctx, b.name(key), "grant", i.data, "nonce", i.fence).Err()
	}
	hash := sha256.Sum256([]byte(key))
	_, err := b.db.ExecContext(ctx, b.sql("UPDATE "+b.table+" SET grant_data = ?, nonce = ? WHERE key_hash = ?"), []byte(i.data), i.fence, hash[:])
	return err
}

// remove removes all that is kept of the grant, the lease on it included.
func (b *underside) remove(ctx context.Context, key string) error {
	switch {
	case b.dir != "":
		path, err := b.file(key)
		if err != nil || path == "" {
			return err
		}
		return os.Remove(path)
	case b.redis != nil:
		return b.redis.Del(ctx, b.name(key)).Err()
	}
	hash := sha256.Sum256([]byte(key))
	_, err := b.db.ExecContext(ctx, b.sql("DELETE FROM "+b.table+" WHERE key_hash = ?"), hash[:])
	return err
}

func (b *underside) name(key string) string { return b.prefix + "{" + url.PathEscape(key) + "}" }

// file returns the path of the grant's file, which is found by what is in it;
// empty if there is none.
func (b *underside) file(key string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(b.dir, "*.json"))
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		var contents struct{ Key string }
		if err := json.Unmarshal(data, &contents); err != nil {
			return "", err
		}
		if readable, err := url.PathUnescape(contents.Key); err == nil && readable == key {
			return path, nil
		}
	}
	return "", nil
}
