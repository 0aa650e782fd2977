package b24test_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// A bubble ends only when every goroutine in it has, so the tests here that
// return without a deadlock have shown that Close leaves none.

func TestCloseEndsWhatIsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		g := srv.Install()
		call(t, srv, g.AccessToken) // leaves an idle connection
		srv.Rename()

		srv.HoldTokens()
		srv.DelayTokens(1, 1000*time.Hour)
		body, unfinished := io.Pipe()
		chunked := request(t, "POST", srv.Endpoint()+"m", formType, "")
		chunked.Body, chunked.ContentLength = body, -1
		failed := make(chan error, 2)
		for _, req := range []*http.Request{
			request(t, "GET", srv.TokenURL()+"?"+refreshParams(srv, g.RefreshToken).Encode(), "", ""), chunked,
		} {
			go func() {
				resp, err := srv.Client().Do(req)
				if err == nil {
					resp.Body.Close()
				}
				failed <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		srv.Close()
		unfinished.Close() // the client's own goroutine waits for it
		for range 2 {
			if err := <-failed; err == nil {
				t.Error("a request outlives Close")
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		srv.Close()
		if n := len(srv.Requests()); n != 2 {
			t.Errorf("%d requests in the log of the closed server, want 2", n)
		}
	})
}

func TestNothingRunsWhenCloseReturns(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		srv.HoldTokens()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if resp, err := srv.Client().Get(srv.TokenURL()); err == nil {
					resp.Body.Close()
				}
			})
		}
		for len(srv.TokenRequests()) < 20 {
			<-time.After(time.Millisecond)
		}
		srv.Close()
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if at := bytes.Index(stacks, []byte("b24test.(*Server).serve")); at >= 0 {
			t.Errorf("still running: %.80s", stacks[at:])
		}
		wg.Wait()
	})
}

func TestCloseEndsADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		srv.DelayTokens(1, 1000*time.Hour)
		failed := make(chan error)
		req := request(t, "POST", srv.TokenURL(), formType, refreshParams(srv, srv.Install().RefreshToken).Encode())
		go func() {
			_, err := srv.Client().Do(req)
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		go srv.Close()
		srv.Close()
		if err := <-failed; err == nil || time.Since(start) != 0 {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
	})
}

func TestClosedServerIsOutOfReach(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		client := srv.Client()
		srv.Close()
		if resp, err := client.Get(srv.URL()); err == nil {
			t.Errorf("answer %s", resp.Status)
			resp.Body.Close()
		}
		defer func() {
			if recover() == nil {
				t.Error("Rename of a closed server does not panic")
			}
		}()
		srv.Rename()
	})
}

func TestCloseDuringRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		var wg sync.WaitGroup
		started := make(chan struct{}, 20)
		for range 20 {
			wg.Go(func() {
				started <- struct{}{}
				for {
					resp, err := srv.Client().Get(srv.Endpoint() + "m")
					if err != nil {
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		for range 20 {
			<-started
		}
		srv.Close()
		wg.Wait()
	})
}

func TestMemoryServerIsALoopbackNameThatNobodyElseReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		portal := "http://portal.use-server-httpclient.localhost:65536"
		if srv.URL() != portal || srv.TokenURL() != "http://oauth.use-server-client.localhost:65536/oauth/token/" {
			t.Errorf("addresses %s and %s", srv.URL(), srv.TokenURL())
		}
		srv.Rename()
		if srv.URL() != strings.Replace(portal, "portal", "portal-2", 1) {
			t.Errorf("renamed to %s", srv.URL())
		}
		for _, url := range []string{strings.Replace(portal, "portal", "portal-3", 1), strings.Replace(portal, ":65536", "", 1), strings.Replace(portal, "http", "https", 1), "http://example.com/"} {
			if resp, err := srv.Client().Get(url); err == nil {
				t.Errorf("%s answers %s", url, resp.Status)
				resp.Body.Close()
			}
		}
	})
}

func TestServerOnSocketsIsOnLoopback(t *testing.T) {
	srv := newServer(t)
	for _, s := range []string{srv.URL(), srv.TokenURL()} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() || u.Scheme != "http" {
			t.Errorf("%s is not plain http on loopback", s)
		}
	}
}

func TestConfigReachesTheServer(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		c := srv.Config()
		if c.ClientID != srv.ClientID() || c.ClientSecret != srv.ClientSecret() || c.TokenURL != srv.TokenURL() || c.Store != nil {
			t.Errorf("configuration of %s at %s, with a store: %t", c.ClientID, c.TokenURL, c.Store != nil)
		}
		resp, err := c.TokenClient.Get(c.TokenURL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		c.TokenClient.Timeout = time.Second
		if srv.Config().TokenClient.Timeout != 0 || srv.Config() == c {
			t.Error("two configurations share what a test may change")
		}
	})
}

func TestHTTPClientCarriesTheToken(t *testing.T) {
	onBoth(t, func(t *testing.T, srv *b24test.Server) {
		config := srv.Config()
		if err := config.Save(t.Context(), "portal", srv.Install()); err != nil {
			t.Fatal(err)
		}
		client, at := srv.HTTPClient(config, "portal"), srv.Endpoint() // as a program has it, also of a portal that is renamed
		for _, before := range []func(){func() {}, srv.ExpireAccessTokens, func() { endPause(t, config); srv.Rename() }} {
			before()
			resp, err := client.Get(at + "profile")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s; want 200", resp.Status)
			}
		}
		if srv.Refreshes() == 0 {
			t.Error("nothing was refreshed")
		}
		if one, two := srv.HTTPClient(config, "portal"), srv.HTTPClient(config, "portal"); one == two || one.Transport == two.Transport {
			t.Error("two clients share what a test may change")
		}
	})
}

// endPause ends what a refusal begins: for ten seconds the portal would get no
// other token.
func endPause(t *testing.T, config *b24oauth.Config) {
	t.Helper()
	if _, err := config.TokenSource("portal").Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// The token would be sent to whatever listens on port 80 of the machine.
func TestNetworkClientOfAMemoryServerIsToldWhichOneToUse(t *testing.T) {
	srv := b24test.NewMemoryServer()
	defer srv.Close()
	config := srv.Config()
	if err := config.Save(t.Context(), "portal", srv.Install()); err != nil {
		t.Fatal(err)
	}
	srv.Reset()
	used := &http.Transport{}
	dialed := &http.Transport{DialContext: (&net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		t.Errorf("a socket was made for %s", address)
		return errors.New("not in this test")
	}}).DialContext}
	defer used.CloseIdleConnections()
	for name, client := range map[string]*http.Client{
		"Config.Client":      config.Client("portal"),
		"another Base":       {Transport: &b24oauth.Transport{Source: config.TokenSource("portal"), Base: used}},
		"one that is told":   {Transport: &b24oauth.Transport{Source: config.TokenSource("portal"), Base: dialed}},
		"the default client": http.DefaultClient,
	} {
		for _, rename := range []bool{false, true} {
			if rename {
				srv.Rename()
			}
			resp, err := client.Get(srv.Endpoint() + "profile")
			if err == nil {
				resp.Body.Close()
				t.Fatalf("%s: %s", name, resp.Status)
			}
			if !strings.Contains(err.Error(), "use-server-httpclient") || !strings.Contains(err.Error(), "invalid port") {
				t.Errorf("%s: %v; want it to lead to Server.HTTPClient, without a connection", name, err)
			}
		}
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestPrintingAServerTellsNoSecret(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v %s %+v", srv, srv, srv)
	slog.New(slog.NewTextHandler(&b, nil)).Info("started", "server", srv)
	for _, secret := range []string{srv.ClientSecret(), g.AccessToken, g.RefreshToken, g.ApplicationToken} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("it tells %s:\n%s", secret, b.String())
		}
	}
	if want := "b24test.Server(" + srv.URL() + ")"; srv.String() != want {
		t.Errorf("String() = %q, want %q", srv.String(), want)
	}
}
