package redislimit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/limit"
	"github.com/b24go/b24oauth/redisstore/redislimit"
)

// The processes call a portal that allows 20 calls in a second and 60 at once, which is
// ten times as fast as Bitrix24's: each of them calls it so often, all at once.
const (
	rate      = 20
	depth     = 60
	burst     = 45
	processes = 4
	calls     = 40
)

func TestMain(m *testing.M) {
	if os.Getenv("REDISLIMIT_TEST_ENDPOINT") != "" {
		os.Exit(process())
	}
	os.Exit(m.Run())
}

func connect(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(o), nil
}

// process is one of several that call the portal.
func process() int {
	c, err := connect(os.Getenv("B24OAUTH_TEST_REDIS"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	budget := redislimit.New(c)
	budget.Rate, budget.Burst, budget.Prefix = rate, burst, os.Getenv("REDISLIMIT_TEST_PREFIX")
	client := &http.Client{Transport: &limit.Transport{Budget: budget}}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		status = 0
	)
	for range calls {
		wg.Go(func() {
			resp, err := client.Get(os.Getenv("REDISLIMIT_TEST_ENDPOINT") + "profile?auth=" + os.Getenv("REDISLIMIT_TEST_AUTH"))
			if err == nil {
				resp.Body.Close()
			}
			if err != nil || resp.StatusCode != http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				status = 1
				fmt.Println(resp, err)
			}
		})
	}
	wg.Wait()
	return status
}

// testRedis returns a client of the tests' Redis, and a prefix of the test's own.
func testRedis(t *testing.T) (*redis.Client, string) {
	t.Helper()
	url := os.Getenv("B24OAUTH_TEST_REDIS")
	if url == "" {
		t.Skip("B24OAUTH_TEST_REDIS is not set: set it to the URL of a Redis, such as redis://127.0.0.1:6379/0")
	}
	c, err := connect(url)
	if err != nil {
		t.Fatal(err)
	}
	prefix := "b24oauth-test-" + rand.Text() + ":"
	t.Cleanup(func() {
		ctx := context.Background()
		for _, pattern := range []string{prefix + "*", "rate:" + prefix + "*"} {
			keys, err := c.Keys(ctx, pattern).Result()
			if err == nil && len(keys) > 0 {
				err = c.Del(ctx, keys...).Err()
			}
			if err != nil {
				t.Error(err)
			}
		}
		c.Close()
	})
	return c, prefix
}

func TestProcessesTogetherStayWithinThePortalsBudget(t *testing.T) {
	_, prefix := testRedis(t)
	srv := b24test.NewServer()
	defer srv.Close()
	grant := srv.Install()
	srv.EnforceLimit(rate, depth)
	begun := time.Now()
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "REDISLIMIT_TEST_ENDPOINT="+srv.Endpoint(), "REDISLIMIT_TEST_AUTH="+grant.AccessToken, "REDISLIMIT_TEST_PREFIX="+prefix)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	wg.Wait()
	if n := len(srv.Requests()); n != processes*calls {
		t.Errorf("%d requests", n)
	}
	t.Logf("%d calls took %v; the budget alone makes them last %v", processes*calls, time.Since(begun).Round(time.Millisecond), (processes*calls-burst)*time.Second/rate)
}

func TestARefusalSlowsEveryProcessDown(t *testing.T) {
	c, prefix := testRedis(t)
	var budgets []*redislimit.Budget
	for range 2 {
		b := redislimit.New(c)
		b.Rate, b.Prefix = rate, prefix
		budgets = append(budgets, b)
	}
	budgets[0].Exceeded("example.bitrix24.com")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	for range 6 {
		if err := budgets[1].Wait(ctx, "example.bitrix24.com"); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(begun); d < 5*time.Second*2/rate*9/10 { // five pauses at half the rate
		t.Errorf("six calls took %v", d)
	}
	if left := c.PTTL(ctx, prefix+"slow:example.bitrix24.com").Val(); left <= 0 || left > limit.Calm {
		t.Errorf("it lasts for %v more", left)
	}
}

func TestWhoCannotWaitIsToldAtOnce(t *testing.T) {
	c, prefix := testRedis(t)
	b := redislimit.New(c)
	b.Rate, b.Burst, b.Prefix = 0.1, 1, prefix
	if err := b.Wait(t.Context(), "portal"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Wait(ctx, "portal"); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("the error is %v; the context's is %v", err, ctx.Err())
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := b.Wait(gone, "portal"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestWithoutRedisEachProcessKeepsTheLimitByItself(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	c := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, DialTimeout: time.Second})
	defer c.Close()
	var log bytes.Buffer
	b := redislimit.New(c)
	b.Rate, b.Burst, b.Logger = 20, 2, slog.New(slog.NewTextHandler(&log, nil))
	begun := time.Now()
	for range 4 {
		if err := b.Wait(t.Context(), "portal"); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(begun); d < 90*time.Millisecond {
		t.Errorf("four calls took %v", d)
	}
	if !strings.Contains(log.String(), "Redis cannot be had") {
		t.Errorf("the log says %s", log.String())
	}
}
