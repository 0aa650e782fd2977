package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

const (
	crowd    = 1000
	exchange = 300 * time.Millisecond // what Bitrix24 takes to answer
)

func memberID(i int) string { return fmt.Sprintf("member %d", i) }

// fillCrowd stores as many grants, to be renewed.
func fillCrowd(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			if err := s.Update(t.Context(), memberID(i), returning(numbered(1), nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// renewAll renews every grant that is not renewed yet, all at once, as so many
// jobs do: Load, then Update, and in it the stored grant once more. It returns the number
// of exchanges.
func renewAll(ctx context.Context, s *sqlstore.Store, keys int) (int, error) {
	var exchanges atomic.Int32
	failures := make([]error, keys)
	renew := func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if g.UserID != 1 {
			return nil, nil
		}
		<-time.After(exchange)
		exchanges.Add(1)
		return numbered(2), nil
	}
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			g, err := s.Load(ctx, memberID(i))
			if err == nil && g.UserID == 1 {
				err = s.Update(ctx, memberID(i), renew)
			}
			failures[i] = err
		})
	}
	wg.Wait()
	return int(exchanges.Load()), errors.Join(failures...)
}

// checkCrowd fails if a grant is not renewed, or renewed twice. The time is
// reported and not judged: it says as much about what else the machine does.
func checkCrowd(t *testing.T, s *sqlstore.Store, exchanges int, spent, target time.Duration) {
	t.Helper()
	t.Logf("%d grants in %v; target %v", crowd, spent.Round(time.Millisecond), target)
	if exchanges != crowd {
		t.Errorf("%d exchanges; want %d", exchanges, crowd)
	}
	for i := range crowd {
		if n := number(t, s, memberID(i)); n != 2 {
			t.Fatalf("%s: grant %d is stored; want 2", memberID(i), n)
		}
	}
}

// onServers is onEach without SQLite, which takes one write at a time.
func onServers(t *testing.T, test func(t *testing.T, d database)) {
	onEach(t, func(t *testing.T, d database) {
		if d.Dialect == sqlstore.SQLite {
			t.Skip("SQLite is not for crowds")
		}
		test(t, d)
	})
}

func TestAThousandGrantsAreRenewedAtOnce(t *testing.T) {
	onServers(t, func(t *testing.T, d database) {
		s := d.on(d.pool(t))
		fillCrowd(t, s)
		begun := time.Now()
		exchanges, err := renewAll(t.Context(), s, crowd)
		if err != nil {
			t.Fatal(err)
		}
		spent := time.Since(begun)
		checkCrowd(t, s, exchanges, spent, 2*time.Second)
		if oneByOne := crowd / connections * exchange; spent > oneByOne {
			t.Errorf("took %v: a connection for each exchange would do it in %v", spent, oneByOne)
		}
	})
}

func TestEightProcessesRenewEachGrantOnce(t *testing.T) {
	onServers(t, func(t *testing.T, d database) {
		s := d.on(d.pool(t))
		fillCrowd(t, s)
		processes := make([]*child, 8)
		for i := range processes {
			processes[i] = &child{Task: "renew", Database: d, Keys: crowd}
			processes[i].start(t)
		}
		begun := time.Now()
		for _, p := range processes {
			p.in.Close()
		}
		exchanges := 0
		for _, p := range processes {
			n, err := strconv.Atoi(strings.TrimSpace(p.line(t)))
			if err != nil {
				t.Fatal(err)
			}
			exchanges += n
		}
		checkCrowd(t, s, exchanges, time.Since(begun), 8*time.Second)
	})
}
