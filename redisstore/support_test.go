package redisstore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// TestMain lets the test binary be one of the processes that a test needs.
func TestMain(m *testing.M) {
	if child := children[os.Getenv("B24OAUTH_TEST_CHILD")]; child != nil {
		child()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	patience = 25 * time.Second // less than a lease of 45 s: nobody waited for one to run out
	theKey   = "example.bitrix24.com"
)

// testURL returns where the tests' Redis is, or skips the test.
func testURL(t *testing.T) string {
	t.Helper()
	url := os.Getenv("B24OAUTH_TEST_REDIS")
	if url == "" {
		t.Skip("B24OAUTH_TEST_REDIS is not set: set it to the URL of a Redis, such as redis://127.0.0.1:6379/0")
	}
	return url
}

// connect returns a client of the tests' Redis.
func connect(t *testing.T) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(testURL(t))
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, o)
}

func dial(t *testing.T, o *redis.Options) *redis.Client {
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// newPrefix returns a prefix that no other test uses. What is under it is
// removed with the test.
func newPrefix(t *testing.T, c redis.UniversalClient) string {
	prefix := "b24oauth-test-" + rand.Text() + ":"
	t.Cleanup(func() {
		ctx := context.Background()
		for all := c.Scan(ctx, 0, prefix+"*", 1000).Iterator(); all.Next(ctx); {
			c.Unlink(ctx, all.Val())
		}
	})
	return prefix
}

func newStore(c redis.UniversalClient, prefix string) *redisstore.Store {
	s := redisstore.New(c)
	s.Prefix = prefix
	return s
}

// openTest returns a Store on the tests' Redis and its client.
func openTest(t *testing.T) (*redisstore.Store, *redis.Client) {
	t.Helper()
	c := connect(t)
	return newStore(c, newPrefix(t, c)), c
}

func nameOf(t *testing.T, s *redisstore.Store, key string) string {
	t.Helper()
	name, err := s.Name(key)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// numbered returns a grant that differs from that of any other n.
func numbered(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{
		MemberID:       "member",
		ClientEndpoint: "https://example.bitrix24.com/rest/",
		AccessToken:    fmt.Sprint("access ", n),
		RefreshToken:   fmt.Sprint("refresh ", n),
		UserID:         n,
	}
}

type updateFunc = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)

// returning is a fn for Update.
func returning(g *b24oauth.Grant, err error) updateFunc {
	return func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, err }
}

func put(t *testing.T, s *redisstore.Store, key string, g *b24oauth.Grant) {
	t.Helper()
	if err := s.Update(t.Context(), key, returning(g, nil)); err != nil {
		t.Fatalf("Update(%q) = %v; want the grant stored", key, err)
	}
}

// settle waits until the lease of an Update that has just ended through s has
// been given back.
func settle(t *testing.T, s *redisstore.Store, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatalf("the lease on %q is not given back: %v", key, err)
	}
}

// wantNumber checks that numbered(n) is stored under key.
func wantNumber(t *testing.T, s *redisstore.Store, key string, n int64) {
	t.Helper()
	g, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatalf("Load(%q) = %v; want grant %d", key, err, n)
	}
	if g.UserID != n || g.RefreshToken != numbered(n).RefreshToken {
		t.Fatalf("Load(%q) is grant %d; want %d", key, g.UserID, n)
	}
}

// await returns what ch yields, or fails if that takes too long.
func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	return awaitFor(t, patience, ch, what)
}

func awaitFor[T any](t *testing.T, patience time.Duration, ch <-chan T, what string) T {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case v := <-ch:
		return v
	case <-timeout.C:
		t.Fatalf("%s: not within %v", what, patience)
		panic("not reached")
	}
}

// eventually waits until ok returns true.
func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
