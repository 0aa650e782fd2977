package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

// pooled returns a table that is reached through a pooler of transactions, by
// a driver with that setting. The driver's prepared statements are left behind
// on whatever connection of the database they were made.
func pooled(t *testing.T, setting string) (behind, direct database) {
	t.Helper()
	url := os.Getenv("B24OAUTH_TEST_PGBOUNCER")
	if url == "" {
		t.Skip(`B24OAUTH_TEST_PGBOUNCER is not set; eval "$(scripts/services)" sets it`)
	}
	direct = database{Dialect: sqlstore.PostgreSQL, Driver: "pgx", DSN: os.Getenv("B24OAUTH_TEST_POSTGRES")}.fresh(t)
	behind = direct
	if behind.DSN = url; setting != "" {
		behind.DSN += "&default_query_exec_mode=" + setting
	}
	return behind, direct
}

// updateMany runs Updates of as many keys at once, and returns how often fn was
// called and what each Update whose fn was not called answered. One whose fn was
// called must have saved.
func updateMany(t *testing.T, behind, direct database) (exchanges int, refused []error) {
	t.Helper()
	const keys = 40
	s, plain := behind.on(behind.pool(t)), direct.on(direct.pool(t))
	for i := range keys {
		put(t, plain, fmt.Sprint("key ", i), 1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range keys {
		key := fmt.Sprint("key ", i)
		wg.Go(func() {
			var asked atomic.Bool
			err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				asked.Store(true)
				<-time.After(20 * time.Millisecond) // the exchange, in which others use the connection
				return numbered(2), nil
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !asked.Load():
				refused = append(refused, err)
			case err != nil:
				t.Errorf("Update after the exchange = %v", err)
			case number(t, plain, key) != 2:
				t.Errorf("Update = nil, and the pair is not stored")
			}
			if asked.Load() {
				exchanges++
			}
		})
	}
	wg.Wait()
	return exchanges, refused
}

func TestAPoolerThatLosesPreparedStatementsIsToldBeforeTheExchange(t *testing.T) {
	behind, direct := pooled(t, "")
	exchanges, refused := updateMany(t, behind, direct)
	t.Logf("%d exchanges, each saved; %d Updates refused before theirs", exchanges, len(refused))
	for _, err := range refused {
		for _, word := range []string{"default_query_exec_mode=exec", "max_prepared_statements"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("Update = %v; want it to name %s", err, word)
			}
		}
	}
	if len(refused) == 0 {
		t.Error("all Updates came to their exchange; the pooler keeps prepared statements, or is none")
	}
}

// With these settings the driver has its statement described first, and has
// then carried out whatever statement is on the connection that it meets.
func TestBehindAPoolerNoStatementOfAnotherCostsAPair(t *testing.T) {
	for _, setting := range []string{"cache_describe", "describe_exec"} {
		t.Run("default_query_exec_mode="+setting, func(t *testing.T) {
			behind, direct := pooled(t, setting)
			exchanges, refused := updateMany(t, behind, direct)
			t.Logf("%d exchanges, each saved; %d Updates refused before theirs", exchanges, len(refused))
		})
	}
}

func TestBehindAPoolerEachUpdateSucceedsWithoutPreparedStatements(t *testing.T) {
	for _, setting := range []string{"exec", "simple_protocol"} {
		t.Run("default_query_exec_mode="+setting, func(t *testing.T) {
			behind, direct := pooled(t, setting)
			if exchanges, refused := updateMany(t, behind, direct); exchanges != 40 || len(refused) > 0 {
				t.Errorf("%d of 40 Updates came to their exchange; the others: %v", exchanges, refused)
			}
			behind, _ = pooled(t, setting)
			checkExclusivity(t, behind)
		})
	}
}

// The name of a prepared statement follows from its text. Where another client
// has prepared it, the driver would fail with the same text for ever.
func TestASaveWhoseStatementAnotherClientPreparedIsMade(t *testing.T) {
	behind, direct := pooled(t, "")
	var f faults
	observed := direct.on(direct.faulty(t, &f))
	put(t, observed, theKey, 1)
	var text string
	f.set(func(statement string) fault {
		if isSave(statement) {
			text = statement
		}
		return healthy
	})
	put(t, observed, theKey, 2)

	s, other := behind.on(behind.pool(t)), behind.pool(t)
	err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		_, err := other.ExecContext(t.Context(), text, nil, nil, nil, nil, "", "", []byte("no key"), "")
		return numbered(3), err
	})
	if err != nil {
		t.Errorf("Update = %v", err)
	}
	if n := number(t, observed, theKey); n != 3 {
		t.Errorf("grant %d is stored; want 3", n)
	}
}
