package b24oauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

// exchangeAt asks a server for a token with our own client.
func exchangeAt(t *testing.T, tokenURL string) error {
	t.Helper()
	c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient, c.TokenURL = nil, tokenURL })
	_, err := c.Exchange(t.Context(), "the-code", "")
	return err
}

func TestGuarantee7OwnClientTrustsOnlyWhatTLSVouchesFor(t *testing.T) {
	start := func(change func(*httptest.Server)) string {
		ts := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
		ts.Config.ErrorLog = log.New(io.Discard, "", 0)
		change(ts)
		ts.StartTLS()
		t.Cleanup(ts.Close)
		return ts.URL + "/oauth/token/"
	}
	err := exchangeAt(t, start(func(*httptest.Server) {}))
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok || !errors.Is(err, b24oauth.ErrUnavailable) {
		t.Errorf("an unknown certificate: error %v (%v)", err, unknown)
	}
	err = exchangeAt(t, start(func(ts *httptest.Server) {
		ts.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}))
	if alert, ok := errors.AsType[tls.AlertError](err); !ok && (err == nil || !strings.Contains(err.Error(), "version")) {
		t.Errorf("TLS 1.1: error %v (%v)", err, alert)
	}
}

// The proxies of the environment are read once in a process, so each case has
// one of its own.
func TestOwnClientHeedsProxiesButNotForLoopback(t *testing.T) {
	if tokenURL := os.Getenv("B24OAUTH_TEST_TOKEN_URL"); tokenURL != "" {
		for _, client := range []*http.Client{nil, http.DefaultClient} {
			if client != nil && strings.HasPrefix(tokenURL, "https://LOCALHOST") {
				continue // it asks the proxy for this one, over TLS
			}
			c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient, c.TokenURL = client, tokenURL })
			_, err := c.Exchange(t.Context(), "the-code", "")
			fmt.Println("error:", err)
		}
		portal := os.Getenv("B24OAUTH_TEST_PORTAL")
		for _, base := range []http.RoundTripper{nil, http.DefaultTransport} {
			tr := &b24oauth.Transport{Source: newProgramAt(t, portal).source, Base: base}
			resp, err := tr.RoundTrip(get(t, portal+"m"))
			if err == nil {
				resp.Body.Close()
			}
			fmt.Println("error:", err)
		}
		return
	}
	seen := make(chan string, 100)
	serve := func(handle http.HandlerFunc) *url.URL {
		ts := httptest.NewServer(handle)
		t.Cleanup(ts.Close)
		return mustParse(t, ts.URL)
	}
	proxy := serve(func(w http.ResponseWriter, r *http.Request) {
		seen <- "proxy " + r.Method + " " + r.Host
		w.WriteHeader(http.StatusBadGateway)
	})
	here := serve(func(w http.ResponseWriter, r *http.Request) {
		seen <- "here " + strings.TrimSuffix(r.Host, ":"+hostPort(r.Host)) + r.URL.Path
		w.Write([]byte(`{"access_token":"a","client_endpoint":"https://portal.example/rest/"}`))
	})
	for _, c := range []struct{ tokenURL, portal, wantServer, wantPortal string }{
		{"https://oauth.example/oauth/token/", "https://portal.example/rest/", "proxy CONNECT oauth.example:443", "proxy CONNECT portal.example:443"},
		{"http://127.0.0.1:PORT/oauth/token/", "http://127.0.0.1:PORT/rest/", "here 127.0.0.1/oauth/token/", "here 127.0.0.1/rest/m"},
		{"http://localhost:PORT/oauth/token/", "http://localhost:PORT/rest/", "here localhost/oauth/token/", "here localhost/rest/m"},
		{"http://LOCALHOST:PORT/oauth/token/", "http://LOCALHOST:PORT/rest/", "here LOCALHOST/oauth/token/", "here LOCALHOST/rest/m"},
		{"https://LOCALHOST:PORT/oauth/token/", "http://127.0.0.1:PORT/rest/", "", "here 127.0.0.1/rest/m"}, // here speaks no TLS
		{"http://oauth.localhost:PORT/oauth/token/", "http://portal.localhost:PORT/rest/", "here oauth.localhost/oauth/token/", "here portal.localhost/rest/m"},
	} {
		fill := strings.NewReplacer("PORT", here.Port())
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOwnClientHeedsProxiesButNotForLoopback$", "-test.v")
		cmd.Env = append(os.Environ(),
			"HTTP_PROXY="+proxy.String(), "HTTPS_PROXY="+proxy.String(), "NO_PROXY=", "no_proxy=", "http_proxy=", "https_proxy=",
			"B24OAUTH_TEST_TOKEN_URL="+fill.Replace(c.tokenURL), "B24OAUTH_TEST_PORTAL="+fill.Replace(c.portal))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.tokenURL, err, out)
		}
		got, want := make(map[string]bool), map[string]bool{c.wantServer: true, c.wantPortal: true}
		delete(want, "")
		for len(seen) > 0 {
			got[<-seen] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: arrived (-want +got):\n%s\n%s", c.tokenURL, diff, out)
		}
	}
}

func hostPort(host string) string {
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		return ""
	}
	return port
}

func TestFailedTokenRequestKeepsItsCause(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there
	err = exchangeAt(t, "http://"+l.Addr().String()+"/oauth/token/")
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v, want a *net.OpError that names the address", err)
	}
}

func TestFailureThatQuotesTheURLKeepsItsCause(t *testing.T) {
	dns := &net.DNSError{Err: "no such host", Name: "oauth.bitrix.info", IsNotFound: true}
	for name, test := range map[string]struct {
		err     error
		timeout bool
		is      error
	}{
		"a name that is not found":    {&net.OpError{Op: "dial", Net: "tcp", Err: dns}, false, nil},
		"a connection that timed out": {&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, true, os.ErrDeadlineExceeded},
		"a deadline":                  {context.DeadlineExceeded, true, context.DeadlineExceeded},
		"a reset connection":          {&net.OpError{Op: "read", Net: "tcp", Err: io.ErrUnexpectedEOF}, false, io.ErrUnexpectedEOF},
	} {
		for how, wrap := range map[string]func(url string, err error) error{
			"alone":               func(_ string, err error) error { return err },
			"in a *url.Error":     func(u string, err error) error { return &url.Error{Op: "Get", URL: u, Err: err} },
			"after the URL":       func(u string, err error) error { return fmt.Errorf("GET %s giving up after 5 attempts: %w", u, err) },
			"after the URL twice": func(u string, err error) error { return fmt.Errorf("%s: %w", u, fmt.Errorf("%q: %w", u, err)) },
			"beside the URL":      func(u string, err error) error { return errors.Join(errors.New("not sent: "+u), err) },
		} {
			fail := func(req *http.Request) (*http.Response, error) { return nil, wrap(req.URL.String(), test.err) }
			var exchangeErr error
			synctest.Test(t, func(t *testing.T) { // the pauses between the tries take no time
				_, exchangeErr = endpointConfig(tokenServer(fail)).Exchange(t.Context(), "the-code", "")
			})
			portal := &b24oauth.Transport{Source: leakySource{spent().Token()}, Base: roundTripFunc(fail)}
			_, callErr := (&http.Client{Transport: portal}).Get("https://portal.bitrix24.com/rest/m?id=7")
			for of, err := range map[string]error{"exchange": exchangeErr, "call": callErr} {
				where := fmt.Sprintf("%s %s, %s: error %v", name, how, of, err)
				var op *net.OpError
				if want := &op; errors.As(test.err, want) != errors.As(err, want) {
					t.Errorf("%s: the *net.OpError is lost", where)
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%s: it is no longer %v", where, test.is)
				}
				var timeout interface{ Timeout() bool }
				if got := errors.As(err, &timeout) && timeout.Timeout(); got != test.timeout {
					t.Errorf("%s: Timeout() = %v", where, got)
				}
				if !strings.Contains(err.Error(), test.err.Error()) {
					t.Errorf("%s does not say %q", where, test.err)
				}
				for _, secret := range []string{"the-client-secret", "the-code", "spent-access-token"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s tells a secret", where)
					}
				}
			}
			if strings.Contains(exchangeErr.Error(), "grant_type") {
				t.Errorf("%s %s: the query survives: %v", name, how, exchangeErr)
			}
		}
	}
}

// hiding is an error that tells nothing itself.
type hiding struct{ inner error }

func (*hiding) Error() string { return "call failed" }

func (e *hiding) Unwrap() error { return e.inner }

// pointing is an error whose URL only JSON follows.
type pointing struct{ Request *struct{ URL string } }

func (*pointing) Error() string { return "call failed" }

// explosive is an error that cannot be marshalled.
type explosive struct{ error }

func (explosive) MarshalJSON() ([]byte, error) { panic("not me") }

func TestGuarantee8ErrorsOfTransportsShowNothingWithin(t *testing.T) {
	const token, secret, code = "spent/access+token", "the/client+secret", "the/code+"
	for name, wrap := range map[string]func(u string) error{
		"in a cause":             func(u string) error { return &hiding{&url.Error{Op: "Get", URL: u, Err: io.EOF}} },
		"in a cause of a cause":  func(u string) error { return fmt.Errorf("GET %s: %w", u, &hiding{errors.New(u)}) },
		"behind a pointer":       func(u string) error { return &pointing{&struct{ URL string }{u}} },
		"behind one, in a cause": func(u string) error { return &hiding{&pointing{&struct{ URL string }{u}}} },
		"as they are": func(u string) error {
			plain, _ := url.QueryUnescape(u)
			return errors.New(plain)
		},
		"in what cannot be marshalled": func(u string) error { return explosive{errors.New(u)} },
	} {
		fail := func(req *http.Request) (*http.Response, error) { return nil, wrap(req.URL.String()) }
		g := spent()
		g.AccessToken = token
		_, callErr := (&b24oauth.Transport{Source: leakySource{g.Token()}, Base: roundTripFunc(fail)}).RoundTrip(get(t, "https://portal.bitrix24.com/rest/m"))
		var exchangeErr error
		synctest.Test(t, func(t *testing.T) {
			c := endpointConfig(tokenServer(fail), func(c *b24oauth.Config) { c.ClientSecret = secret })
			_, exchangeErr = c.Exchange(t.Context(), code, "")
		})
		for of, err := range map[string]error{"call": callErr, "exchange": exchangeErr} {
			if e, ok := errors.AsType[explosive](err); ok {
				t.Errorf("%s, %s: %T comes through", name, of, e)
				continue
			}
			canary.Of(token, secret, code).Check(t, name+", "+of, canary.Error(err))
		}
	}
}

func TestTimeoutOfARenewalIsOneForTheClientToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := tokenServer(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		c := endpointConfig(silent)
		if err := c.Save(t.Context(), key, spent()); err != nil {
			t.Fatal(err)
		}
		_, err := c.Client(key).Get("https://portal.bitrix24.com/rest/m")
		var timeout *url.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, b24oauth.ErrUnavailable) {
			t.Errorf("error %v, want a timeout", err)
		}
		if err := c.Flush(t.Context()); err != nil { // the exchange goes on, for a grace
			t.Error(err)
		}
	})
}

func TestErrorOfAnotherConfigIsNotTheServersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := &b24oauth.TokenError{Code: "invalid_grant", Description: "the-client-secret", Err: io.EOF}
		before := *other
		c := endpointConfig(tokenServer(func(*http.Request) (*http.Response, error) { return nil, other }))
		_, err := c.Exchange(t.Context(), "the-code", "")
		var te *b24oauth.TokenError
		if !errors.As(err, &te) || te == other || te.Permanent() || strings.Contains(err.Error(), "the-client-secret") {
			t.Errorf("error %v, want a passing one of its own", err)
		}
		if *other != before {
			t.Error("the other error was changed")
		}
	})
}
