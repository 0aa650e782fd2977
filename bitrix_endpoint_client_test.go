package b24oauth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
)

// cuttingServer is an HTTP server that answers the first request on each
// connection, keeps that open, reads a second one there and closes without a
// word: what a load balancer that is restarted looks like.
type cuttingServer struct {
	url string

	mu    sync.Mutex // guards what follows
	seen  []string   // method, framing and body of each request
	conns []net.Conn
}

func newCuttingServer(t *testing.T) *cuttingServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &cuttingServer{url: "http://" + l.Addr().String() + "/oauth/token/"}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			running.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *cuttingServer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for first := true; ; first = false {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, fmt.Sprintf("%s length=%d transfer=%v body=%v", req.Method, req.ContentLength, req.TransferEncoding, len(body) > 0))
		n := len(s.seen)
		s.mu.Unlock()
		if !first {
			return
		}
		answer := fmt.Sprintf(`{"access_token":"access-%d","refresh_token":"refresh-%d","expires_in":3600}`, n, n)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
}

func (s *cuttingServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// The control: what this is all about. Here net/http shows what it does to a
// GET on a kept-alive connection.
func TestPlainClientSendsAGetAgainWithoutAWord(t *testing.T) {
	srv := newCuttingServer(t)
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	for range 2 {
		resp, err := client.Get(srv.url)
		if got := status(t, resp, err); got != 200 {
			t.Fatalf("status %d", got)
		}
	}
	if got := len(srv.requests()); got != 3 {
		t.Errorf("the server saw %d requests for two calls; if net/http has stopped repeating, safehttp.Once can go", got)
	}
}

func TestTokenRequestIsNeverSentTwiceByNetHTTP(t *testing.T) {
	keepAlive := func() *http.Client { return &http.Client{Transport: new(http.Transport)} }
	tests := []struct {
		name, method string
		client       *http.Client
		attempts     []int // of the two renewals: a cut connection costs an attempt of ours
	}{
		{"a user's client", "GET", keepAlive(), []int{1, 2}},
		{"a user's client, POST", "POST", keepAlive(), []int{1, 2}},
		{"our own client", "GET", nil, []int{1, 1}},
		{"our own client, POST", "POST", nil, []int{1, 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := newCuttingServer(t)
			var attempts []int
			c := endpointConfig(nil, func(c *b24oauth.Config) {
				c.TokenClient, c.TokenMethod, c.TokenURL = test.client, test.method, srv.url
				c.OnEvent = func(_ context.Context, e b24oauth.Event) {
					if e.Kind == b24oauth.EventRenewed {
						attempts = append(attempts, e.Attempts)
					}
				}
			})
			if test.client != nil {
				defer test.client.CloseIdleConnections()
			}
			sent := 0
			for i, n := range test.attempts {
				g := spent()
				g.RefreshToken = fmt.Sprintf("of-installation-%d", i)
				if _, err := renewed(t, c, g); err != nil {
					t.Fatal(err)
				}
				sent += n
			}
			if err := c.Flush(t.Context()); err != nil { // all events are out
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.attempts, attempts); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
			seen := srv.requests()
			if len(seen) != sent {
				t.Errorf("the server saw %d requests, we sent %d", len(seen), sent)
			}
			for _, req := range seen {
				plain := req == "GET length=0 transfer=[] body=false"
				form := strings.HasPrefix(req, "POST length=") && strings.HasSuffix(req, " transfer=[] body=true")
				if !plain && !form || plain != (test.method == "GET") {
					t.Errorf("on the wire: %s", req)
				}
			}
		})
	}
}

func TestExchangeIsTriedThreeTimesWithGrowingPauses(t *testing.T) {
	for _, lost := range []int{0, 1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			var events []b24oauth.Event
			c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
				at = append(at, time.Now())
				if len(at) <= lost {
					return nil, io.ErrUnexpectedEOF
				}
				return answers(200, `{"access_token":"a","refresh_token":"r"}`)(req)
			}))
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { events = append(events, e) }
			_, err := renewed(t, c, spent())
			synctest.Wait()

			want, kind := lost+1, b24oauth.EventRenewed
			if lost == 3 {
				want, kind = 3, b24oauth.EventRenewFailed
			}
			if len(at) != want || (err != nil) != (lost == 3) || lost == 3 && !errors.Is(err, b24oauth.ErrUnavailable) {
				t.Errorf("%d answers lost: %d requests, error %v", lost, len(at), err)
			}
			if len(events) != 1 || events[0].Kind != kind || events[0].Attempts != want {
				t.Errorf("%d answers lost: events %v", lost, events)
			}
			for i, pause := range []time.Duration{250 * time.Millisecond, time.Second} {
				if len(at) < i+2 {
					break
				}
				if d := at[i+1].Sub(at[i]); d < pause/2 || d >= pause+pause/2 {
					t.Errorf("%d answers lost: pause %d is %v, want %v ± half", lost, i+1, d, pause)
				}
			}
		})
	}
}

func TestRetryAfterEndsTheExchangeAndIsHeeded(t *testing.T) {
	tests := []struct {
		name   string
		header func() string
		want   time.Duration // 0: not heeded, three requests
	}{
		{"seconds", func() string { return "120" }, 2 * time.Minute},
		{"an HTTP date", func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }, 90 * time.Second},
		{"a day", func() string { return "86400" }, 10 * time.Minute},
		{"a date next year", func() string { return time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat) }, 10 * time.Minute},
		{"more than an int64 of nanoseconds", func() string { return "2147483647" }, 10 * time.Minute},
		{"more than an int64", func() string { return "99999999999999999999" }, 0},
		{"zero", func() string { return "0" }, 0},
		{"negative", func() string { return "-5" }, 0},
		{"a date that is over", func() string { return time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0},
		{"words", func() string { return "soon" }, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, n := counted(func(req *http.Request) (*http.Response, error) {
					return answers(503, "", "Retry-After", test.header())(req)
				})
				c := endpointConfig(srv)
				if _, err := renewed(t, c, spent()); !errors.Is(err, b24oauth.ErrUnavailable) {
					t.Fatalf("error %v", err)
				}
				if test.want == 0 {
					if got := n.Load(); got != 3 {
						t.Errorf("%d requests, want 3", got)
					}
					return
				}
				ask := func(after time.Duration, want int64) {
					t.Helper()
					<-time.After(after)
					if _, err := c.TokenSource(key).Token(); !errors.Is(err, b24oauth.ErrUnavailable) {
						t.Errorf("error %v", err)
					}
					if got := n.Load(); got != want {
						t.Errorf("%d requests, want %d", got, want)
					}
				}
				ask(0, 1)
				ask(test.want-time.Second, 1)
				ask(2*time.Second, 2)
			})
		})
	}
}

func TestCutAnswerOfAStatelessServerCostsOneAttemptMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.SetSingleUse(false)
		<-time.After(2 * time.Hour)
		p.CutTokens(1)
		if _, err := p.source.Token(); err != nil {
			t.Error(err)
		}
		if got := len(p.TokenRequests()); got != 2 {
			t.Errorf("%d token requests, want 2", got)
		}
	})
}

func TestRedirectOfTheTokenEndpointLeadsNowhere(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			synctest.Test(t, func(t *testing.T) {
				hosts := make(map[string]int)
				c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
					hosts[req.URL.Host]++
					return answers(status, "", "Location", "https://evil.example"+req.URL.RequestURI())(req)
				}))
				c.TokenMethod = method
				c.TokenClient.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
				_, err := c.Exchange(t.Context(), "the-code", "")
				if !errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("%s, %d: %v", method, status, err)
				}
				if diff := cmp.Diff(map[string]int{"oauth.bitrix.info": 3}, hosts); diff != "" {
					t.Errorf("%s, %d: requests by host (-want +got):\n%s", method, status, diff)
				}
			})
		}
	}
}
