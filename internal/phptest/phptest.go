// Package phptest has a PHP interpreter say what it makes of a request.
// Bitrix24 is written in PHP, so that is what a portal sees.
package phptest

import (
	_ "embed"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Seen is what PHP says of a request: $_GET, $_POST, the body decoded as
// JSON, its length, and the Authorization header.
type Seen struct {
	Get, Post     map[string]any
	JSON          any
	Length        int64
	Authorization string
}

//go:embed echo.php
var echo []byte

// Start starts PHP's built-in server on loopback, which answers any request
// with a Seen in JSON, and returns its URL without a trailing slash. It ends
// with the test. Without PHP the test is skipped, but not on CI.
func Start(t testing.TB) (url string) {
	t.Helper()
	php, err := exec.LookPath("php")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no php in PATH: install php-cli")
		}
		t.Skip("no php in PATH: install php-cli to have PHP's own word")
	}
	script := filepath.Join(t.TempDir(), "echo.php")
	if err := os.WriteFile(script, echo, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if addr, ok := try(t, php, script); ok {
			return "http://" + addr
		}
	}
	t.Fatal("php does not serve")
	return ""
}

// try starts a server on a port that was free a moment ago.
func try(t testing.TB, php, script string) (addr string, ok bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	var log strings.Builder
	cmd := exec.Command(php, "-n", "-d", "display_errors=0", "-S", addr, script)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("php: %s", log.String())
		}
	})
	for range 200 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, true
		}
		select {
		case <-ended:
			return "", false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "", false
}
