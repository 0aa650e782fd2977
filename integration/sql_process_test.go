package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// childVariable tells TestSQLChild what to do, as JSON of a child.
const childVariable = "B24OAUTH_TEST_SQL_CHILD"

type child struct {
	Task     string // "hold" or "renew"
	Database database
	Lease    time.Duration
	Keys     int

	in  io.Closer
	out *bufio.Reader
	cmd *exec.Cmd
}

// start runs the test binary again, as c, until it says that it is ready.
func (c *child) start(t *testing.T) {
	t.Helper()
	task, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0], "-test.run=^TestSQLChild$")
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(task))
	c.cmd.Stderr = os.Stderr
	in, inErr := c.cmd.StdinPipe()
	out, outErr := c.cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, c.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	if line := c.line(t); line != "ready\n" {
		t.Fatalf("the child says %q", line)
	}
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the child ended: %v", err)
	}
	return line
}

// TestSQLChild is no test but what a process does that another test started.
func TestSQLChild(t *testing.T) {
	var c child
	task := os.Getenv(childVariable)
	if task == "" {
		t.Skip("this is for the processes that other tests start")
	}
	if err := json.Unmarshal([]byte(task), &c); err != nil {
		t.Fatal(err)
	}
	s := c.Database.on(c.Database.pool(t))
	s.Lease = c.Lease
	switch c.Task {
	case "hold":
		s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			fmt.Println("ready")
			select {}
		})
	case "renew":
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		exchanges, err := renewAll(t.Context(), s, c.Keys)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%.2000v\n", err)
		}
		fmt.Println(exchanges)
	}
}

func TestAfterAKilledHolderTheGrantIsAsItWas(t *testing.T) {
	const lease = 300 * time.Millisecond
	for _, stored := range []int64{0, 1} {
		t.Run(map[int64]string{0: "no grant", 1: "a grant"}[stored], func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				s := d.on(d.pool(t))
				if stored != 0 {
					put(t, s, theKey, stored)
				}
				begun := time.Now()
				holder := &child{Task: "hold", Database: d, Lease: lease}
				holder.start(t)
				if err := holder.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				failure := errors.New("fn's own")
				err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
					if time.Since(begun) < lease {
						t.Error("fn was called while the lease of the killed process ran")
					}
					if (g == nil) != (stored == 0) {
						t.Errorf("fn was given %v; want what the killed process was given", g)
					}
					return nil, failure
				})
				if !errors.Is(err, failure) || errors.Is(err, b24oauth.ErrConflict) {
					t.Errorf("Update = %v; want fn's error alone", err)
				}
				if n := number(t, s, theKey); n != stored {
					t.Errorf("grant %d is stored; want %d", n, stored)
				}
				put(t, s, theKey, 2)
			})
		})
	}
}
