package integration

import (
	"bufio"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshot = flag.Bool("screenshot", false, "write the README's picture of the sandbox's page anew")

// runningSandbox is b24oauth sandbox, as it tells by --json.
type runningSandbox struct {
	Portal, Endpoint string
	Grant            struct {
		AccessToken string `json:"access_token"`
	}
}

func startSandbox(t *testing.T) *runningSandbox {
	t.Helper()
	program := filepath.Join(t.TempDir(), "b24oauth")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../cmd/b24oauth"
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	cmd := exec.Command(program, "sandbox", "--json", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the sandbox ended with %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := new(runningSandbox)
	if err := json.Unmarshal(line, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// call calls a method as an application does.
func (s *runningSandbox) call(t *testing.T, method string) {
	t.Helper()
	resp, err := http.PostForm(s.Endpoint+method, url.Values{"auth": {s.Grant.AccessToken}, "select[]": {"ID", "TITLE"}})
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func TestTheSandboxesPageFollowsWhatHappensAndMakesItHappen(t *testing.T) {
	s := startSandbox(t)
	ctx := browser(t)
	shows := func(selector, want string) {
		t.Helper()
		text := ""
		for ctx.Err() == nil {
			var err error
			if text, err = chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector))); err == nil && strings.Contains(text, want) {
				return
			}
		}
		t.Fatalf("%s shows %q, want %q", selector, text, want)
	}
	if _, err := chromedp.Run(ctx, chromedp.Navigate(s.Portal+"/_sandbox/")); err != nil {
		t.Fatal(err)
	}
	shows("#link", "live")
	s.call(t, "crm.deal.list")
	shows("#log", "/rest/crm.deal.list")
	shows("#grants", "good")
	press := func(action string) {
		t.Helper()
		if _, err := chromedp.Run(ctx, chromedp.Click(chromedp.CSS(`form[data-action="`+action+`"] button`))); err != nil {
			t.Fatal(err)
		}
	}
	press("expire")
	shows("#grants", "expired")
	s.call(t, "crm.contact.list")
	shows("#log", "401 expired_token")
	press("install")
	shows("#answer", "access_token")
	shows("#grants", "good")
	press("limit")
	shows("#answer", "1")
	s.call(t, "crm.lead.list")
	shows("#log", "503 QUERY_LIMIT_EXCEEDED")
	if !*screenshot {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("../docs/sandbox.png", picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
