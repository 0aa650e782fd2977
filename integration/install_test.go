package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/install"
)

const installVariable = "B24OAUTH_TEST_INSTALL_TASK"

// installTask is what the process of an application is told.
type installTask struct {
	Store                            fleetStore
	ClientID, ClientSecret, TokenURL string
}

func (task installTask) handler() (_ *install.Handler, close func() error, _ error) {
	store, closeStore, err := task.Store.open()
	if err != nil {
		return nil, nil, err
	}
	config := &b24oauth.Config{ClientID: task.ClientID, ClientSecret: task.ClientSecret, TokenURL: task.TokenURL, Store: store}
	return &install.Handler{Config: config, AllowPrivate: true}, closeStore, nil
}

// An installation that was answered with 200 is not lost with the process that
// answered it, and nobody sends it again.
func TestAnInstallationOutlivesTheProcessThatAnsweredIt(t *testing.T) {
	for _, place := range fleetPlaces() {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			srv := b24test.NewServer()
			defer srv.Close()
			down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
			defer down.Close()
			task := installTask{place.fresh(t), srv.ClientID(), srv.ClientSecret(), down.URL + "/oauth/token/"}
			address, kill := startApplication(t, task)
			g := srv.Install()
			resp, err := http.DefaultClient.Do(srv.EventRequest(address, "ONAPPINSTALL", g, nil))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
			kill()

			task.TokenURL = srv.TokenURL() // it is well again
			h, closeStore, err := task.handler()
			if err != nil {
				t.Fatal(err)
			}
			defer closeStore()
			defer h.Close(context.Background())
			key := install.Key(srv.ClientID(), g.MemberID)
			for deadline := time.Now().Add(time.Minute); ; {
				// A process that is killed can have the lease of the slot.
				if err := h.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				stored, err := h.Config.TokenSource(key).Grant(t.Context())
				if err == nil {
					if stored.UserID != g.UserID || srv.Refreshes() != 1 {
						t.Errorf("stored %v after %d refreshes", stored, srv.Refreshes())
					}
					return
				}
				if !errors.Is(err, b24oauth.ErrNoGrant) || time.Now().After(deadline) {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// startApplication starts a process with an install.Handler.
func startApplication(t *testing.T, task installTask) (address string, kill func()) {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInstallProcess$")
	cmd.Env = append(os.Environ(), installVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
		in.Close()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://") {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return strings.TrimSpace(line), kill
}

// TestInstallProcess is no test but what startApplication starts.
func TestInstallProcess(t *testing.T) {
	text := os.Getenv(installVariable)
	if text == "" {
		t.Skip("this is for the processes that another test starts")
	}
	var task installTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	h, closeStore, err := task.handler()
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	server := httptest.NewServer(h)
	defer server.Close()
	fmt.Println(server.URL)
	io.Copy(io.Discard, os.Stdin) // until it is killed
}
