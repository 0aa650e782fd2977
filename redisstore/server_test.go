package redisstore_test

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// server is a Redis of the test's own.
type server struct {
	t    *testing.T
	path string
	args []string
	addr string
	port string
	cmd  *exec.Cmd
}

// startServer starts a Redis in an empty directory, or skips the test.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	testURL(t) // those who want no tests on Redis want no Redis either
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("there is no redis-server in the PATH: install one")
	}
	s := &server{t: t, path: path, port: freePort(t)}
	s.addr = "127.0.0.1:" + s.port
	s.args = append([]string{"--port", s.port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--loglevel", "warning"}, args...)
	t.Cleanup(s.kill)
	s.start()
	return s
}

// freePort returns a port that is free, and so is the one that a cluster
// takes for its bus beside it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		bus, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10000))
		if err == nil {
			bus.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no free port")
	return ""
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.path, s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.client()
	eventually(s.t, func() bool { return c.Ping(s.t.Context()).Err() == nil }, "an answer of a new Redis")
}

// kill ends the server as a crash would.
func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
	s.cmd = nil
}

func (s *server) client() *redis.Client {
	return dial(s.t, &redis.Options{Addr: s.addr})
}

func (s *server) do(args ...any) {
	s.t.Helper()
	if err := s.client().Do(s.t.Context(), args...).Err(); err != nil {
		s.t.Fatalf("%v: %v", args[:2], err)
	}
}

// startCluster starts two masters, each with half of the slots.
func startCluster(t *testing.T) *redis.ClusterClient {
	t.Helper()
	node := func() *server {
		return startServer(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
	}
	one, two := node(), node()
	one.do("cluster", "addslotsrange", 0, 8191)
	two.do("cluster", "addslotsrange", 8192, 16383)
	one.do("cluster", "set-config-epoch", 1)
	two.do("cluster", "set-config-epoch", 2)
	one.do("cluster", "meet", "127.0.0.1", two.port)
	for _, s := range []*server{one, two} {
		c := s.client()
		eventually(t, func() bool {
			info := c.ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:2")
		}, "a cluster of two")
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{one.addr}})
	t.Cleanup(func() { c.Close() })
	return c
}
