package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// children are what the test binary does as a child, by name.
var children = map[string]func(){
	"holder": childHolds,
	"crowd":  childCrowd,
}

// child is a process of this test binary.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t *testing.T, name, prefix string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), "B24OAUTH_TEST_CHILD="+name, "B24OAUTH_TEST_PREFIX="+prefix)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

// line returns what the child says next.
func (c *child) line(t *testing.T) string {
	t.Helper()
	said := make(chan string, 1)
	go func() {
		line, _ := c.out.ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	return awaitFor(t, 2*time.Minute, said, "a word of the child")
}

// childStore is the Store of a child.
func childStore() *redisstore.Store {
	o, err := redis.ParseURL(os.Getenv("B24OAUTH_TEST_REDIS"))
	if err != nil {
		panic(err)
	}
	o.PoolSize = 10
	return newStore(redis.NewClient(o), os.Getenv("B24OAUTH_TEST_PREFIX"))
}

const holderLease = time.Second

// childHolds holds the grant until it is killed.
func childHolds() {
	s := childStore()
	s.Lease = holderLease
	s.Update(context.Background(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		return nil, nil
	})
}

func TestAKilledHolderIsSucceeded(t *testing.T) {
	s, _ := openTest(t)
	put(t, s, theKey, numbered(1))
	holder := startChild(t, "holder", s.Prefix)
	if got := holder.line(t); got != "held" {
		t.Fatalf("the holder says %q; want held", got)
	}
	holder.Process.Kill()
	holder.Wait()
	wantNumber(t, s, theKey, 1)

	killed := time.Now()
	failure := errors.New("invalid_grant")
	err := s.Update(t.Context(), theKey, returning(nil, failure))
	t.Logf("the lease of %v was had %v after the kill", holderLease, time.Since(killed).Round(time.Millisecond))
	if !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("failing Update after a killed holder = %v; want fn's error alone", err)
	}
	put(t, s, theKey, numbered(2))
	wantNumber(t, s, theKey, 2)
}

const (
	crowd    = 1000
	exchange = 300 * time.Millisecond
)

func crowdKey(i int) string { return fmt.Sprintf("member %d", i) }

func storeCrowd(t *testing.T, s *redisstore.Store) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			if err := s.Update(t.Context(), crowdKey(i), returning(numbered(0), nil)); err != nil {
				t.Errorf("Update = %v", err)
			}
		})
	}
	wg.Wait()
}

// renewCrowd renews all grants at once, unless somebody else has, and returns
// how many exchanges that took.
func renewCrowd(s *redisstore.Store) (exchanges int, err error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			err := s.Update(context.Background(), crowdKey(i), func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if g.UserID != 0 {
					return nil, nil
				}
				count.Add(1)
				<-time.After(exchange)
				return numbered(1), nil
			})
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return int(count.Load()), nil
}

// A pool whose connections were held while fn runs would need 30 s.
func TestAThousandGrantsAreRenewedAtOnce(t *testing.T) {
	o, err := redis.ParseURL(testURL(t))
	if err != nil {
		t.Fatal(err)
	}
	o.PoolSize, o.MaxActiveConns = 10, 10
	c := dial(t, o)
	s := newStore(c, newPrefix(t, c))
	storeCrowd(t, s)
	began := time.Now()
	n, err := renewCrowd(s)
	took := time.Since(began)
	t.Logf("%d grants, %v each, on 10 connections: %v", crowd, exchange, took.Round(time.Millisecond))
	if err != nil || n != crowd {
		t.Errorf("%d exchanges, error %v; want %d", n, err, crowd)
	}
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// childCrowd renews the crowd as soon as it is told to.
func childCrowd() {
	s := childStore()
	s.Load(context.Background(), crowdKey(0)) // so that it has a connection
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	n, err := renewCrowd(s)
	s.Flush(context.Background()) // or what it ends before giving back has to run out
	fmt.Println(n, err)
}

func TestEightProcessesRenewAThousandGrantsOnce(t *testing.T) {
	s, _ := openTest(t)
	if testing.Short() {
		t.Skip("takes a few seconds: run without -short")
	}
	storeCrowd(t, s)
	var processes []*child
	for range 8 {
		c := startChild(t, "crowd", s.Prefix)
		if got := c.line(t); got != "ready" {
			t.Fatalf("a process says %q; want ready", got)
		}
		processes = append(processes, c)
	}
	began := time.Now()
	for _, c := range processes {
		io.WriteString(c.in, "go\n")
	}
	total := 0
	for _, c := range processes {
		var n int
		said := c.line(t)
		if _, err := fmt.Sscanf(said, "%d <nil>", &n); err != nil {
			t.Errorf("a process says %q; want a number and no error", said)
		}
		total += n
	}
	t.Logf("8 processes, the same %d grants, %v each: %v", crowd, exchange, time.Since(began).Round(time.Millisecond))
	if total != crowd {
		t.Errorf("%d exchanges; want exactly %d", total, crowd)
	}
}
