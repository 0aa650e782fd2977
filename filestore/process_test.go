package filestore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

// The test binary runs itself as another process that does one of these.
const (
	roleVariable = "FILESTORE_TEST_ROLE"
	dirVariable  = "FILESTORE_TEST_DIR"

	roleHold  = "hold"  // says "held" while its Update runs, which never ends
	roleStage = "stage" // says "staged" when the next grant is written and not yet the stored one
	roleCount = "count" // adds one, increments times
	roleWrite = "write" // adds one and says the number, until it is killed
	roleOther = "other" // the test of directories and files of others
	roleDisk  = "disk"  // the test of a full and a read-only file system

	increments = 10
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role, os.Getenv(dirVariable)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func play(role, dir string) error {
	switch role {
	case roleDisk:
		return diskRole(dir)
	case roleOther:
		return otherRole(dir)
	}
	s, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch role {
	case roleHold:
		return s.Update(ctx, "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			fmt.Println("held")
			_, err := io.Copy(io.Discard, os.Stdin) // until the parent closes it
			return pair(100), err
		})
	case roleStage:
		filestore.SetRename(func(string, string) error {
			fmt.Println("staged")
			select {}
		})
		return s.Update(ctx, "key", addOne)
	case roleCount:
		for range increments {
			if err := s.Update(ctx, "key", addOne); err != nil {
				return err
			}
		}
		return nil
	case roleWrite:
		for {
			if err := s.Update(ctx, "key", addOne); err != nil {
				return err
			}
			g, err := s.Load(ctx, "key")
			if err != nil {
				return err
			}
			fmt.Println(g.UserID)
		}
	}
	return fmt.Errorf("no role %q", role)
}

// pair returns the n-th grant of a chain of renewals.
func pair(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{
		UserID:       n,
		AccessToken:  fmt.Sprintf("access %d", n),
		RefreshToken: fmt.Sprintf("refresh %d", n),
		Lineage:      b24oauth.Lineage{Root: 1, Generation: uint64(n)},
	}
}

func addOne(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
	if g == nil {
		return pair(1), nil
	}
	return pair(g.UserID + 1), nil
}

// process is another process. It is killed when the test ends, if it still
// runs.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // what it says, closed at its end
}

func start(t *testing.T, role, dir string) *process {
	t.Helper()
	p := prepare(t, role, dir)
	if err := p.start(t); err != nil {
		t.Fatal(err)
	}
	return p
}

func prepare(t *testing.T, role, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir)
	cmd.Stderr = os.Stderr
	return &process{cmd: cmd, lines: make(chan string, 100_000)}
}

func (p *process) start(t *testing.T) error {
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.stdin = stdin
	t.Cleanup(p.kill)
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return nil
}

// line returns the next line that the process says, or "" at its end.
func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case s := <-p.lines:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("another process says nothing")
		return ""
	}
}

// kill ends the process, without asking it, and waits until it has ended.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		for range p.lines {
		}
		p.cmd.Wait()
	}
}

// wait waits for the process to end by itself, successfully.
func (p *process) wait(t *testing.T) {
	t.Helper()
	for {
		s := p.line(t)
		if s == "" {
			break
		}
		t.Logf("another process: %s", s)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("another process: %v", err)
	}
}

func TestProcessesLoseNoUpdate(t *testing.T) {
	dir := t.TempDir()
	const processes = 4
	var all []*process
	for range processes {
		all = append(all, start(t, roleCount, dir))
	}
	for _, p := range all {
		p.wait(t)
	}
	g, err := open(t, dir).Load(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if g.UserID != processes*increments {
		t.Errorf("%d processes added %d each, and the sum is %d", processes, increments, g.UserID)
	}
}

func TestKilledProcessesLeaveTheOldGrantOrTheNew(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var reported int64
	for i := range 30 {
		p := start(t, roleWrite, dir)
		number(t, p.line(t), &reported)
		// Somewhere in the milliseconds that an Update takes.
		<-time.After(time.Duration(i) * 300 * time.Microsecond)
		p.cmd.Process.Kill()
		for line := range p.lines {
			number(t, line, &reported)
		}
		p.cmd.Wait()

		g, err := s.Load(t.Context(), "key")
		if err != nil {
			t.Fatalf("after kill %d: %v", i, err)
		}
		if g.UserID != reported && g.UserID != reported+1 {
			t.Errorf("after kill %d the grant is number %d; want %d, which was saved, or the one after it", i, g.UserID, reported)
		}
		if want := pair(g.UserID); g.AccessToken != want.AccessToken || g.RefreshToken != want.RefreshToken {
			t.Errorf("after kill %d the grant is a mixture: %v", i, g)
		}
		reported = g.UserID
	}
}

// number reads a number that a process said. What was cut short by its death
// was not said.
func number(t *testing.T, line string, n *int64) {
	t.Helper()
	got, err := strconv.ParseInt(line, 10, 64)
	switch {
	case err != nil:
		t.Fatalf("another process says %q", line)
	case got > *n:
		*n = got
	}
}
