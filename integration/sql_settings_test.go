package integration

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// settings of a connection under which a Store must do the same.
var settings = map[string][]string{
	"pgx": {
		"default_transaction_isolation=serializable", "default_query_exec_mode=simple_protocol",
		"default_query_exec_mode=exec", "timezone=Asia/Yekaterinburg", "bytea_output=escape",
	},
	"mysql": {
		"{isolation}=%27SERIALIZABLE%27", "{isolation}=%27READ-UNCOMMITTED%27", "clientFoundRows=true", "interpolateParams=true",
		"parseTime=true&loc=Asia%2FYekaterinburg", "time_zone=%27%2B05%3A00%27", "sql_mode=%27%27", "sql_mode=%27ANSI,TRADITIONAL%27",
	},
	"sqlite": {"_txlock=immediate", "_time_format=sqlite", "_pragma=foreign_keys(1)"},
}

func TestNoSettingOfTheConnectionMatters(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		for _, setting := range settings[d.Driver] {
			t.Run(setting, func(t *testing.T) {
				d := d.fresh(t)
				if strings.HasPrefix(setting, "{isolation}") {
					setting = strings.Replace(setting, "{isolation}", isolationVariable(t, d), 1)
				}
				if d.DSN += "&" + setting; !strings.Contains(d.DSN, "?") {
					d.DSN = strings.Replace(d.DSN, "&", "?", 1)
				}
				checkExclusivity(t, d)
			})
		}
	})
}

// isolationVariable returns its name, which differs from release to release.
func isolationVariable(t *testing.T, d database) (name string) {
	t.Helper()
	var value string
	err := d.pool(t).QueryRow("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')").Scan(&name, &value)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// checkExclusivity counts with several Stores, and looks at what else depends on
// rows that were changed or not.
func checkExclusivity(t *testing.T, d database) {
	t.Helper()
	const stores, rounds = 4, 3
	var wg sync.WaitGroup
	for range stores {
		s := d.on(d.pool(t))
		wg.Go(func() {
			for range rounds {
				err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					if g == nil {
						g = numbered(0)
					}
					g.UserID++
					g.Expiry = time.Now()
					return g, nil
				})
				if err != nil {
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
	wg.Wait()
	db := d.pool(t)
	s := d.on(db)
	if n := number(t, s, theKey); n != stores*rounds {
		t.Errorf("grant %d is stored; want %d", n, stores*rounds)
	}
	var hash []byte
	d.one(t, db, "key_hash", &hash)
	if want := sha256.Sum256([]byte(theKey)); string(hash) != string(want[:]) {
		t.Errorf("key_hash is %x; want %x", hash, want)
	}
	failure := errors.New("fn's own")
	holder := d.on(db)
	holder.Lease = 50 * time.Millisecond
	err := holder.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
		<-ctx.Done()
		if err := s.Update(t.Context(), theKey, returning(nil, failure)); !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
			t.Errorf("an Update that took over = %v; want fn's error alone", err)
		}
		return nil, b24oauth.ErrDelete
	})
	if err != nil {
		t.Errorf("removal = %v", err)
	}
	for key, err := range s.Keys(t.Context()) {
		t.Errorf("Keys of an empty table yields %q, %v", key, err)
	}
}
