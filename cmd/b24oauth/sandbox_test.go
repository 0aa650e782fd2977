package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// sandboxCommand starts and stops b24oauth sandbox in a session:
//
//	sandbox start [FLAG…]          sets SANDBOX, SANDBOX_HOST and the application's variables,
//	                               and writes the grant to grant.json
//	sandbox post ACTION [NAME=VALUE…]  writes what it answers to answer.json
//	sandbox stop INT|TERM          interrupts it, upon which it must end with status 0
func sandboxCommand(ts *testscript.TestScript, neg bool, args []string) {
	switch args[0] {
	case "start":
		startSandbox(ts, args[1:])
	case "post":
		form := make(url.Values)
		for _, field := range args[2:] {
			name, value, _ := strings.Cut(field, "=")
			form.Add(name, value)
		}
		resp, err := http.PostForm(ts.Getenv("SANDBOX")+"/_sandbox/"+args[1], form)
		ts.Check(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("answer.json"), body, 0o600))
		if resp.StatusCode != http.StatusOK {
			ts.Fatalf("%s: %d %s", args[1], resp.StatusCode, body)
		}
	case "stop":
		// A stream that a browser has open holds nothing up.
		resp, err := http.Get(ts.Getenv("SANDBOX") + "/_sandbox/events")
		ts.Check(err)
		defer resp.Body.Close()
		running := ts.Value(sandboxKey{}).(*sandboxProcess)
		ts.Check(running.Process.Signal(map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM}[args[1]]))
		if err := running.Wait(); err != nil {
			ts.Fatalf("the sandbox ended with %v", err)
		}
	default:
		ts.Fatalf("sandbox %s: no such thing", args[0])
	}
}

type sandboxKey struct{}

// sandboxProcess is the session's sandbox, once it is started.
type sandboxProcess struct{ *exec.Cmd }

func startSandbox(ts *testscript.TestScript, flags []string) {
	bin := filepath.SplitList(ts.Getenv("PATH"))[0]
	cmd := exec.Command(filepath.Join(bin, "b24oauth"), append([]string{"sandbox", "--json"}, flags...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState == nil { // the session failed before it stopped it
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	ts.Check(err)
	var ready struct {
		Portal       string
		TokenURL     string          `json:"token_url"`
		ClientID     string          `json:"client_id"`
		ClientSecret string          `json:"client_secret"`
		Grant        json.RawMessage `json:"grant"`
	}
	ts.Check(json.Unmarshal(line, &ready))
	ts.Check(os.WriteFile(ts.MkAbs("grant.json"), ready.Grant, 0o600))
	ts.Setenv("SANDBOX", ready.Portal)
	ts.Setenv("SANDBOX_HOST", strings.TrimPrefix(ready.Portal, "http://"))
	ts.Setenv("BITRIX24_CLIENT_ID", ready.ClientID)
	ts.Setenv("BITRIX24_CLIENT_SECRET", ready.ClientSecret)
	ts.Setenv("BITRIX24_TOKEN_URL", ready.TokenURL)
	ts.Value(sandboxKey{}).(*sandboxProcess).Cmd = cmd
}

// programCommand starts a developer's program, at $PROGRAM, which answers everything
// with a status and a text:
//
//	program STATUS TEXT
func programCommand(ts *testscript.TestScript, neg bool, args []string) {
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, args[1]+" "+r.FormValue("event")+r.FormValue("code")+r.FormValue("PLACEMENT")+" "+r.FormValue("data[FIELDS][ID]"))
	}))
	ts.Defer(srv.Close)
	ts.Setenv("PROGRAM", srv.URL)
}

func TestSandboxPrintsLinesToCopyIntoAShell(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"sandbox", "--listen", "127.0.0.1:0"}, strings.NewReader(""), in, io.Discard)
		in.Close()
	}()
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "b24oauth trigger") {
			cancel()
		}
	}
	if s := <-status; s != exitOK {
		t.Errorf("it ended with status %d", s)
	}
	for _, want := range []string{
		`(?m)^Its page: +http://127\.0\.0\.1:\d+/_sandbox/$`,
		`(?m)^export BITRIX24_CLIENT_ID=local\.\S+$`,
		`(?m)^export BITRIX24_CLIENT_SECRET=\S+$`,
		`(?m)^export BITRIX24_TOKEN_URL=http://127\.0\.0\.1:\d+/oauth/token/$`,
		`(?m)^b24oauth import demo <<'GRANT'\n\{"access_token":"\S+\}\nGRANT$`,
		`(?m)^b24oauth trigger ONAPPINSTALL --forward-to \S+ --sandbox http://127\.0\.0\.1:\d+$`,
	} {
		if !regexp.MustCompile(want).MatchString(text.String()) {
			t.Errorf("no line like %s in\n%s", want, &text)
		}
	}
}
