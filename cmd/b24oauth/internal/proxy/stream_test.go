package proxy_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/proxy"
)

// stream is a portal of which only the bodies matter, and the proxy before it.
func stream(t *testing.T, portal http.HandlerFunc, change ...func(*proxy.Options)) string {
	t.Helper()
	p := httptest.NewServer(portal)
	t.Cleanup(p.Close)
	c := &b24oauth.Config{ClientID: "local.example", ClientSecret: "made-up", Store: new(b24oauth.MemoryStore)}
	g := &b24oauth.Grant{AccessToken: "made-up", RefreshToken: "made-up", ClientEndpoint: p.URL + "/rest/", Issued: time.Now(), Expiry: time.Now().Add(time.Hour)}
	if err := c.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{Logger: slog.New(slog.DiscardHandler), Repair: func(error) string { return "" }}
	for _, c := range change {
		c(&o)
	}
	front := httptest.NewServer(proxy.New(c, key, o))
	t.Cleanup(front.Close)
	return front.URL + "/rest/disk.file"
}

// peak returns the most memory that was in use while do ran, beyond what was before.
func peak(do func()) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, m.HeapAlloc
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		select {
		case <-done:
			return most - before
		default:
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			runtime.Gosched()
		}
	}
}

const (
	large = 256 << 20
	flat  = 16 << 20
)

func TestALargeUploadIsNotHeldInMemory(t *testing.T) {
	var got int64
	at := stream(t, func(w http.ResponseWriter, r *http.Request) { got, _ = io.Copy(io.Discard, r.Body) })
	most := peak(func() {
		resp, err := http.Post(at, "application/octet-stream", io.LimitReader(zeros{}, large))
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	if got != large || most > flat {
		t.Errorf("%d bytes arrived, with up to %d KiB of memory", got, most>>10)
	}
	t.Logf("up to %d KiB of memory for %d MiB", most>>10, large>>20)
}

func TestALargeDownloadIsNotHeldInMemory(t *testing.T) {
	at := stream(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, io.LimitReader(zeros{}, large)) })
	var got int64
	most := peak(func() {
		resp, err := http.Get(at)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		got, _ = io.Copy(io.Discard, resp.Body)
	})
	if got != large || most > flat {
		t.Errorf("%d bytes arrived, with up to %d KiB of memory", got, most>>10)
	}
	t.Logf("up to %d KiB of memory for %d MiB", most>>10, large>>20)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestWhatThePortalSendsSlowlyIsPassedOnAtOnce(t *testing.T) {
	const lines = 3
	for name, contentLength := range map[string]string{"of unknown length": "", "of known length": "21"} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			at := stream(t, func(w http.ResponseWriter, r *http.Request) {
				if contentLength != "" {
					w.Header().Set("Content-Length", contentLength)
				}
				for i := range lines {
					fmt.Fprintf(w, "line %d\n", i)
					http.NewResponseController(w).Flush()
					<-next
				}
			})
			resp, err := http.Get(at)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := bufio.NewReader(resp.Body)
			for i := range lines {
				line, err := body.ReadString('\n') // would wait for ever if it were held back
				if err != nil || line != fmt.Sprintf("line %d\n", i) {
					t.Fatalf("%q, %v", line, err)
				}
				next <- struct{}{}
			}
		})
	}
}

func TestWhatAProgramSendsSlowlyIsPassedOnAtOnce(t *testing.T) {
	arrived := make(chan string)
	at := stream(t, func(w http.ResponseWriter, r *http.Request) {
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			arrived <- lines.Text()
		}
	})
	body, send := io.Pipe()
	done := make(chan error, 1)
	go func() {
		resp, err := http.Post(at, "application/octet-stream", body)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	for i := range 3 {
		fmt.Fprintf(send, "line %d\n", i)
		if line := <-arrived; line != fmt.Sprintf("line %d", i) {
			t.Fatalf("%q arrived", line)
		}
	}
	send.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestACompressedAnswerPassesAsItIs(t *testing.T) {
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	io.WriteString(writer, `{"result":true}`)
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	at := stream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			http.Error(w, "Accept-Encoding: "+r.Header.Get("Accept-Encoding"), http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(compressed.Bytes())
	})
	for _, test := range []struct{ accepts, encoding, want string }{
		{"gzip", "gzip", compressed.String()},
		{"", "", `{"result":true}`}, // is read by nobody who has not asked for it
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.accepts != "" {
			req.Header.Set("Accept-Encoding", test.accepts)
		}
		resp, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.Header.Get("Content-Encoding") != test.encoding || string(body) != test.want {
			t.Errorf("who accepts %q is answered %s, %q, %q, %v", test.accepts, resp.Status, resp.Header.Get("Content-Encoding"), body, err)
		}
	}
}

func TestAConnectionThatIsUpgradedPassesBothWays(t *testing.T) {
	at := stream(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n') // what is missing is missing in the answer
		io.WriteString(rw, "heard "+line)
		rw.Flush()
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", at, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	both, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("%s, %T", resp.Status, resp.Body)
	}
	io.WriteString(both, "hello\n")
	if line, err := bufio.NewReader(both).ReadString('\n'); line != "heard hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}
