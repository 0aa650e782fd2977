package integration

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// The example's application is installed and used in a portal's frame, in a browser
// that keeps no cookie of a third party.
func TestAnApplicationIsInstalledAndUsedInTheFrame(t *testing.T) {
	app := startWebapp(t)
	ctx := browser(t)
	if _, err := chromedp.Run(ctx, chromedp.Navigate(app.page)); err != nil {
		t.Fatal(err)
	}
	seen := make(frames)
	seen.within(t, ctx, "The application is installed.", "p")
	for text := ""; !strings.Contains(text, "Deals of user"); { // the installation is finished by a request of its own
		if _, err := chromedp.Run(ctx, chromedp.Navigate(app.page)); err != nil {
			t.Fatal(err)
		}
		for text = ""; text == "" && ctx.Err() == nil; { // the frame is empty before the form is posted into it
			text = seen.shown(t, ctx, "body")
		}
	}
	seen.within(t, ctx, "A first deal <b>A second one</b>", "#deals")

	// What the portal does to the application's token is no concern of its user's, and
	// what somebody does in the portal is heard of.
	app.do(t, app.expire)
	app.do(t, app.deal)
	app.logs(t, ctx, " event name=ONCRMDEALADD", "deal=3")
	seen.press(t, ctx, "#again")
	seen.within(t, ctx, "A first deal <b>A second one</b> A new deal", "#deals")
	app.logs(t, ctx, "token renewed")
	resp, err := http.Get(app.check)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if report, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(report), `"ok":true`) {
		t.Errorf("the check answers %s %s, %v", resp.Status, report, err)
	}
}

// browser starts Chromium and returns the context of a tab, which ends after a minute.
func browser(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is missing: install Debian's package chromium")
		}
		t.Skip("there is no chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.NoSandbox, // the tests may run as root, where there is none
		chromedp.Flag("test-third-party-cookie-phaseout", true),
		chromedp.Flag("disable-features", ""), // the frame of another site is a target of its own, as it is for users
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(tab); err != nil { // starts the browser, in the context that it lives for
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tab, time.Minute)
	t.Cleanup(cancel)
	return ctx
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

// press clicks on the element of the frame that shows it.
func (f frames) press(t *testing.T, tab context.Context, selector string) {
	t.Helper()
	for _, frame := range f {
		soon, cancel := context.WithTimeout(frame, 2*time.Second)
		_, err := chromedp.Run(soon, chromedp.Click(chromedp.CSS(selector)))
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("no frame has %s", selector)
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

// webapp is the example while it runs.
type webapp struct {
	page         string // where its portal shows it
	expire, deal string // addresses that make happen what happens in a portal
	check        string // the address that tells whether the grant works
	log          chan string
}

func startWebapp(t *testing.T) *webapp {
	t.Helper()
	program := filepath.Join(t.TempDir(), "webapp")
	build := exec.Command("go", "build", "-o", program, "./examples/webapp")
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "LISTEN=127.0.0.1:0", "BITRIX24_CLIENT_ID=", "BITRIX24_CLIENT_SECRET=")
	read, stderr := io.Pipe()
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &webapp{log: make(chan string, 1000)}
	go func() {
		defer close(w.log)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			w.log <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("webapp ended with %v", err)
		}
		stderr.Close()
	})
	lines := bufio.NewScanner(out)
	for w.check == "" && lines.Scan() {
		switch text := lines.Text(); {
		case w.page == "":
			w.page = text
		case strings.Contains(text, "/expire "):
			w.expire = strings.Fields(text)[3]
		case strings.Contains(text, "/deal "):
			w.deal = strings.Fields(text)[3]
		case strings.Contains(text, "/token-refresh"):
			w.check = strings.Fields(text)[1]
		}
	}
	if w.check == "" {
		t.Fatalf("webapp has not told where it is: %v", lines.Err())
	}
	return w
}

// do makes something happen in the portal.
func (w *webapp) do(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Post(address, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s: %s", address, resp.Status)
	}
}

// logs waits for a line of the log that has all of the words.
func (w *webapp) logs(t *testing.T, ctx context.Context, words ...string) {
	t.Helper()
	for {
		select {
		case line, ok := <-w.log:
			if !ok {
				t.Fatalf("the log has ended without %q", words)
			}
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("the log has no line with %q", words)
		}
	}
}
