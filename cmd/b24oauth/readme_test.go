package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readmeBlocks returns the commands in a section of the README.
func readmeBlocks(t *testing.T, section string) []string {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(data), "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// TestTheREADMELeadsAStrangerFromNothingToACall copies what he copies: the commands of
// the first block, the lines that the sandbox prints, the commands of the second. Only
// the sandbox's address is another one, since somebody may be using it.
func TestTheREADMELeadsAStrangerFromNothingToACall(t *testing.T) {
	installed(t, "curl")
	blocks := readmeBlocks(t, "From nothing to a call")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	shell := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-e", "-c", script)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "GOBIN="+home+"/bin", "PATH="+home+"/bin:"+os.Getenv("PATH"),
			"GOFLAGS=-modcacherw", "B24OAUTH_STORE=", "BITRIX24_TOKEN_URL=", "BITRIX24_CLIENT_ID=", "BITRIX24_CLIENT_SECRET=", "NO_PROXY=*")
		for _, name := range []string{"GOMODCACHE", "GOCACHE", "GOPROXY", "GONOSUMDB"} { // what HOME leads to otherwise
			value, err := exec.Command("go", "env", name).Output()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
		}
		return cmd
	}

	first := shell(strings.Replace(blocks[0], "b24oauth sandbox", "exec b24oauth sandbox --listen 127.0.0.1:0", 1))
	first.Stderr = t.Output()
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		first.Process.Signal(os.Interrupt)
		if err := first.Wait(); err != nil {
			t.Errorf("the sandbox ended with %v", err)
		}
	})
	portal, paste := pasted(t, out)

	second := shell(paste + strings.ReplaceAll(blocks[1], "http://127.0.0.1:8024", portal))
	said, err := second.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"imported demo", "A first deal", "demo ", " ok\n", `grant "demo": works`} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	if n := strings.Count(string(said), "A first deal"); n != 3 { // once by the lines that were pasted
		t.Errorf("%d calls were answered:\n%s", n, said)
	}
}

// pasted returns the portal's address, and the lines that the sandbox says to copy:
// the application and its grant.
func pasted(t *testing.T, out io.Reader) (portal, lines string) {
	t.Helper()
	var b strings.Builder
	for said := bufio.NewScanner(out); said.Scan(); {
		line := said.Text()
		switch {
		case portal == "":
			fields := strings.Fields(line)
			portal = fields[len(fields)-1]
		case strings.HasPrefix(line, "# The application"), b.Len() > 0:
			b.WriteString(line + "\n")
		}
		if strings.HasPrefix(line, "b24oauth call demo") {
			return portal, b.String()
		}
	}
	t.Fatal("the sandbox has not said what to copy")
	return "", ""
}
