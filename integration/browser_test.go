package integration

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// The example's application is installed and used in a portal's frame, in a browser
// that keeps no cookie of a third party.
func TestAnApplicationIsInstalledAndUsedInTheFrame(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is missing: install Debian's package chromium")
		}
		t.Skip("there is no chromium")
	}
	page := startWebapp(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser),
		chromedp.NoSandbox, // the tests may run as root, where there is none
		chromedp.Flag("test-third-party-cookie-phaseout", true),
		chromedp.Flag("disable-features", ""), // the frame of another site is a target of its own, as it is for users
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	defer stop()
	tab, closeTab := chromedp.NewContext(allocator)
	defer closeTab()
	if _, err := chromedp.Run(tab, chromedp.Navigate(page)); err != nil { // starts the browser
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	seen := make(frames)
	seen.within(t, ctx, "The application is installed.", "p")
	for text := ""; !strings.Contains(text, "Deals of user"); { // the installation is finished by a request of its own
		if _, err := chromedp.Run(ctx, chromedp.Navigate(page)); err != nil {
			t.Fatal(err)
		}
		for text = ""; text == "" && ctx.Err() == nil; { // the frame is empty before the form is posted into it
			text = seen.shown(t, ctx, "body")
		}
	}
	seen.within(t, ctx, "A first deal <b>A second one</b>", "#deals")
}

// frames are those of a tab that were looked into. They stay attached: to leave one
// would close it.
type frames map[target.ID]context.Context

// within waits until the element of the frame has that text.
func (f frames) within(t *testing.T, tab context.Context, want, selector string) {
	t.Helper()
	got := ""
	for tab.Err() == nil {
		if got = f.shown(t, tab, selector); strings.Contains(got, want) {
			return
		}
	}
	t.Fatalf("the frame shows %q, want %q", got, want)
}

// shown returns the text of an element of the frame, "" if there is none now.
func (f frames) shown(t *testing.T, tab context.Context, selector string) string {
	t.Helper()
	targets, err := chromedp.Targets(tab)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range targets {
		if info.Type != "iframe" {
			continue
		}
		frame, known := f[info.TargetID]
		if !known {
			var leave context.CancelFunc
			frame, leave = chromedp.NewContext(tab, chromedp.WithTargetID(info.TargetID))
			t.Cleanup(leave)
			if chromedp.Do(frame) != nil { // it has gone meanwhile
				continue
			}
			f[info.TargetID] = frame
		}
		soon, cancel := context.WithTimeout(frame, 2*time.Second)
		text, err := chromedp.Run(soon, chromedp.Text(chromedp.CSS(selector)))
		cancel()
		if err == nil {
			return text
		}
	}
	return ""
}

// startWebapp starts the example and returns the address of its portal's page.
func startWebapp(t *testing.T) (page string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "webapp")
	build := exec.Command("go", "build", "-o", program, "./examples/webapp")
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "LISTEN=127.0.0.1:0", "BITRIX24_CLIENT_ID=", "BITRIX24_CLIENT_SECRET=")
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
			t.Errorf("webapp ended with %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
