package b24test_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth/b24test"
)

// onBoth runs a test against a server on sockets and one in memory.
func onBoth(t *testing.T, test func(*testing.T, *b24test.Server)) {
	t.Run("sockets", func(t *testing.T) {
		srv := b24test.NewServer()
		defer srv.Close()
		test(t, srv)
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := b24test.NewMemoryServer()
			defer srv.Close()
			test(t, srv)
		})
	})
}

func newServer(t *testing.T) *b24test.Server {
	srv := b24test.NewServer()
	t.Cleanup(srv.Close)
	return srv
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// object is the body as JSON.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%q is no JSON object: %v", a.body, err)
	}
	return v
}

// plainClient reaches a server and follows no redirect.
func plainClient(srv *b24test.Server) *http.Client {
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

func do(t *testing.T, srv *b24test.Server, req *http.Request) answer {
	t.Helper()
	resp, err := plainClient(srv).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func request(t *testing.T, method, url, contentType, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req
}

func get(t *testing.T, srv *b24test.Server, url string) answer {
	t.Helper()
	return do(t, srv, request(t, "GET", url, "", ""))
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

func post(t *testing.T, srv *b24test.Server, url, contentType, body string) answer {
	t.Helper()
	return do(t, srv, request(t, "POST", url, contentType, body))
}

// refreshParams are those of a correct refresh.
func refreshParams(srv *b24test.Server, token string) url.Values {
	return url.Values{
		"grant_type":    {"refresh_token"},
		"client_id":     {srv.ClientID()},
		"client_secret": {srv.ClientSecret()},
		"refresh_token": {token},
	}
}

func codeParams(srv *b24test.Server, code string) url.Values {
	p := refreshParams(srv, "")
	p.Set("grant_type", "authorization_code")
	p.Set("code", code)
	return p
}

// exchange sends a token request as documented: a GET.
func exchange(t *testing.T, srv *b24test.Server, params url.Values) answer {
	t.Helper()
	return get(t, srv, srv.TokenURL()+"?"+params.Encode())
}

// refresh exchanges a refresh token, which must succeed, and returns the new
// pair.
func refresh(t *testing.T, srv *b24test.Server, token string) (access, next string) {
	t.Helper()
	a := exchange(t, srv, refreshParams(srv, token))
	if a.status != http.StatusOK {
		t.Fatalf("refresh: %d %s", a.status, a.body)
	}
	o := a.object(t)
	return o["access_token"].(string), o["refresh_token"].(string)
}

// call makes a REST call with a token in the query.
func call(t *testing.T, srv *b24test.Server, token string) answer {
	t.Helper()
	return get(t, srv, srv.Endpoint()+"crm.deal.list?auth="+token)
}

// last is the newest of a list of requests.
func last(t *testing.T, requests []b24test.Request) b24test.Request {
	t.Helper()
	if len(requests) == 0 {
		t.Fatal("no request arrived")
	}
	return requests[len(requests)-1]
}

// advance lets a bubble's clock go on.
func advance(d time.Duration) { <-time.After(d) }
