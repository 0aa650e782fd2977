package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBitrix24sOwnSDKRunsAgainstTheSandbox is a session of @bitrix24/b24jssdk, as npm
// has it. It needs node, npm and, once, a registry: without them it is skipped, but
// where CI is set it fails.
func TestBitrix24sOwnSDKRunsAgainstTheSandbox(t *testing.T) {
	missing := t.Skipf
	if os.Getenv("CI") != "" {
		missing = t.Fatalf
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/jssdk")); err != nil {
		t.Fatal(err)
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		missing("npm cannot install the SDK: %v\n%s", err, out)
	}

	node := exec.CommandContext(t.Context(), "node", "session.mjs")
	node.Dir = dir
	node.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	node.Stdin = bytes.NewReader(runningSandbox(t))
	out, err := node.CombinedOutput()
	want := []string{
		"deals: 1,2,3",
		"administrator: true",
		"refreshed: true 2",
		"after the expiry: 3",
		"batch: 2 7",
		"a dead grant is refused",
	}
	if got := strings.TrimSpace(string(out)); err != nil || got != strings.Join(want, "\n") {
		t.Errorf("%v\n%s\nwant\n%s", err, got, strings.Join(want, "\n"))
	}
}

// runningSandbox runs b24oauth sandbox until the test ends, and returns the line that
// it prints.
func runningSandbox(t *testing.T) []byte {
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"sandbox", "--json", "--listen", "127.0.0.1:0"}, strings.NewReader(""), in, t.Output())
		in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if status := <-ended; status != exitOK {
			t.Errorf("the sandbox ended with status %d", status)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}
