package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/gregjones/httpcache"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/limit"
	"github.com/b24go/b24oauth/retry"
	"github.com/b24go/b24oauth/sealedstore"
)

// What repeats stands above what waits for the budget, and both above b24oauth: each
// repetition waits for its turn, and then gets its token.
func Example_retryAndLimit() {
	srv, config := portal()
	defer srv.Close()
	srv.RefuseNext(1, b24test.Answer{Status: http.StatusBadGateway})

	budget := &limit.Transport{Base: transport(config)}
	client := new(retry.Policy).Client(&http.Client{Transport: budget})
	status, _ := call(client, srv, "crm.deal.list")
	fmt.Println(status, len(srv.Requests()))
	// Output: 200 2
}

// A logging transport above b24oauth sees the program's calls, without a token.
func Example_logging() {
	srv, config := portal()
	defer srv.Close()
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) // os.Stderr

	client := &http.Client{Transport: logging{transport(config), log}}
	status, _ := call(client, srv, "crm.deal.list")
	fmt.Println(status)
	// Output: 200
}

// logging logs each call.
type logging struct {
	base http.RoundTripper
	log  *slog.Logger
}

func (l logging) RoundTrip(r *http.Request) (*http.Response, error) {
	begun := time.Now()
	resp, err := l.base.RoundTrip(r)
	if err != nil {
		l.log.Error("call", "url", r.URL.String(), "error", err)
		return nil, err
	}
	l.log.Info("call", "url", resp.Request.URL.String(), "status", resp.StatusCode, "took", time.Since(begun))
	return resp, nil
}

func TestALoggingTransportSeesNoSecret(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	var log bytes.Buffer
	tr := transport(config)
	tr.Placement = b24oauth.PlaceQuery
	client := &http.Client{Transport: logging{tr, slog.New(slog.NewTextHandler(&log, nil))}}
	srv.ExpireAccessTokens()
	call(client, srv, "crm.deal.list")
	srv.ExpireAccessTokens()
	srv.KillGrants()
	call(client, srv, "crm.deal.list")
	wantNoSecret(t, srv, log.String())
	if !strings.Contains(log.String(), "status=200") {
		t.Errorf("the log says %s", log.String())
	}
}

// resty takes the client as it is. Its retries ask nothing of an error, so they are told
// which ones stay until somebody acts.
func Example_resty() {
	srv, config := portal()
	defer srv.Close()

	client := resty.NewWithClient(config.Client("example")).
		SetBaseURL(srv.Endpoint()).
		SetRetryCount(2).
		AddRetryCondition(func(_ *resty.Response, err error) bool {
			ofToken, ok := errors.AsType[*b24oauth.TokenError](err)
			return ok && !ofToken.Permanent()
		})
	srv.ExpireAccessTokens()
	resp, err := client.R().SetBody(map[string]any{"fields": map[string]any{"TITLE": "A deal"}}).Post("crm.deal.add")
	fmt.Println(resp.StatusCode(), err)
	// Output: 200 <nil>
}

func TestRestyDoesNotAskTwiceAboutADeadGrant(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	client := resty.NewWithClient(config.Client("example")).SetRetryCount(3).
		AddRetryCondition(func(_ *resty.Response, err error) bool {
			ofToken, ok := errors.AsType[*b24oauth.TokenError](err)
			return ok && !ofToken.Permanent()
		})
	srv.ExpireAccessTokens()
	srv.KillGrants()
	if _, err := client.R().Get(srv.Endpoint() + "profile"); !errors.Is(err, b24oauth.ErrReauthorize) || len(srv.TokenRequests()) != 1 {
		t.Errorf("%v, after %d token requests", err, len(srv.TokenRequests()))
	}
}

// A cache above b24oauth keys by the program's URL, which has no token in it: the answer
// is found again although the token is another one by then.
func Example_cache() {
	srv, config := portal()
	defer srv.Close()
	srv.On("crm.status.list", b24test.Answer{Status: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}, Body: `{"result":[]}`})

	cache := httpcache.NewMemoryCacheTransport()
	cache.Transport = transport(config)
	client := cache.Client()
	for range 2 {
		resp, err := client.Get(srv.Endpoint() + "crm.status.list")
		if err != nil {
			fmt.Println(err)
			return
		}
		io.Copy(io.Discard, resp.Body) // a cache has what was read
		resp.Body.Close()
		srv.ExpireAccessTokens()
	}
	fmt.Println(len(srv.Requests()))
	// Output: 1
}

// A reverse proxy lets programs in other languages call: b24oauth proxy is one that is
// ready to use, with everything that this one lacks.
func Example_reverseProxy() {
	srv, config := portal()
	defer srv.Close()
	endpoint, err := url.Parse(srv.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(endpoint) },
		Transport: transport(config),
	})
	defer proxy.Close()
	resp, err := http.Get(proxy.URL + "/rest/profile")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 200
}

// In a bubble of testing/synctest an hour is over at once, and the token with it.
func TestAnHourIsOverAtOnceInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := b24test.NewMemoryServer()
		defer srv.Close()
		config := srv.Config()
		config.Store = new(b24oauth.MemoryStore)
		if err := config.Save(t.Context(), "example", srv.Install()); err != nil {
			t.Fatal(err)
		}
		client := srv.HTTPClient(config, "example")
		for range 3 {
			if status, body := call(client, srv, "profile"); status != 200 {
				t.Errorf("%d %s", status, body)
			}
			time.Sleep(time.Hour)
		}
		if n := srv.Refreshes(); n != 2 {
			t.Errorf("%d renewals", n)
		}
	})
}

// Several users of one portal have a grant each, under keys of their own.
func TestSeveralUsersOfAPortalActAsThemselves(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	for _, user := range []string{"anna", "boris"} {
		if err := config.Save(t.Context(), "example/"+user, srv.Employee()); err != nil {
			t.Fatal(err)
		}
	}
	srv.ExpireAccessTokens()
	seen := map[string]bool{}
	for _, key := range []string{"example", "example/anna", "example/boris"} {
		status, body := call(config.Client(key), srv, "profile")
		_, id, _ := strings.Cut(body, `"ID":"`)
		id, _, _ = strings.Cut(id, `"`)
		if status != 200 || id == "" || seen[id] {
			t.Errorf("%s: %d %s", key, status, body)
		}
		seen[id] = true
	}
}

func TestFiveHundredPortalsInOneProgram(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	var wg sync.WaitGroup
	for i := range 500 {
		key := fmt.Sprintf("portal-%03d", i)
		if err := config.Save(t.Context(), key, srv.Install()); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			client := config.Client(key)
			for range 3 {
				if status, body := call(client, srv, "crm.deal.list"); status != 200 {
					t.Errorf("%s: %d %s", key, status, body)
				}
			}
		})
	}
	wg.Wait()
}

// Whoever reads the Store beneath a sealed one finds no token.
func TestASealedStoreIsAStoreLikeAnyOther(t *testing.T) {
	srv, _ := portal()
	defer srv.Close()
	memory := new(b24oauth.MemoryStore)
	sealed := *srv.Config()
	sealed.Store = sealedstore.New(memory, aead(t))
	g := srv.Install()
	if err := sealed.Save(t.Context(), "example", g); err != nil {
		t.Fatal(err)
	}
	if status, body := call(sealed.Client("example"), srv, "profile"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	stored, err := memory.Load(t.Context(), "example")
	if err != nil || stored.AccessToken == g.AccessToken || !strings.HasPrefix(stored.RefreshToken, "sealed:") {
		t.Errorf("the Store beneath has %v, %v", stored, err)
	}
}
