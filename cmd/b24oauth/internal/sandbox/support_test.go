package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

// fixture is a sandbox that runs.
type fixture struct {
	*sandbox.Sandbox
	server *b24test.Server
	t      *testing.T
}

func open(t *testing.T) *fixture {
	t.Helper()
	srv, err := b24test.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return &fixture{sandbox.Open(srv), srv, t}
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (f *fixture) do(r *http.Request) answer {
	f.t.Helper()
	resp, err := f.server.Client().Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (f *fixture) request(method, address string, form url.Values) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		f.t.Fatal(err)
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func (f *fixture) get(path string) answer {
	f.t.Helper()
	return f.do(f.request("GET", f.server.URL()+path, nil))
}

// post presses a button, and reads what it answers into result if it worked.
func (f *fixture) post(action string, form url.Values, result any) answer {
	f.t.Helper()
	a := f.do(f.request("POST", f.server.URL()+sandbox.Path+action, form))
	if result != nil {
		if a.status != http.StatusOK {
			f.t.Fatalf("%s: %d %s", action, a.status, a.body)
		}
		f.read(a, result)
	}
	return a
}

func (f *fixture) read(a answer, result any) {
	f.t.Helper()
	if err := json.Unmarshal([]byte(a.body), result); err != nil {
		f.t.Fatalf("%q: %v", a.body, err)
	}
}

func (f *fixture) state() (state sandbox.State) {
	f.t.Helper()
	f.read(f.get(sandbox.Path+"state"), &state)
	return state
}

// call calls a method with a grant's token, and returns the status and the error code.
func (f *fixture) call(g sandbox.Grant) string {
	f.t.Helper()
	return f.outcome(f.get("/rest/crm.deal.list?filter[STAGE_ID]=NEW&auth=" + g.AccessToken))
}

// renew exchanges a grant's refresh token, and returns the status and the error code.
func (f *fixture) renew(g sandbox.Grant) string {
	f.t.Helper()
	return f.outcome(f.do(f.request("POST", f.server.TokenURL(), url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {g.RefreshToken},
		"client_id": {f.server.ClientID()}, "client_secret": {f.server.ClientSecret()},
	})))
}

func (f *fixture) outcome(a answer) string {
	f.t.Helper()
	var problem sandbox.Problem
	f.read(a, &problem)
	return strings.TrimSpace(fmt.Sprint(a.status, " ", problem.Code))
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// program is a developer's program, which answers all with one status.
func program(t *testing.T, status int, body string) (address string, received chan *http.Request) {
	received = make(chan *http.Request, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		received <- r
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/bitrix", received
}
