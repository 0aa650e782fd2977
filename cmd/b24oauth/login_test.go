package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
)

// session is a call of the command by somebody who reads what it says on stderr and
// types.
type session struct {
	in     *io.PipeWriter
	shown  chan *url.URL // the address that the user is to open; closed at the end
	out    bytes.Buffer
	said   bytes.Buffer // on stderr; whole when shown is closed
	status chan int
}

var authorizeURL = regexp.MustCompile(`http://\S+/oauth/authorize/\S+`)

func begin(t *testing.T, srv *b24test.Server, args ...string) *session {
	t.Setenv("BITRIX24_CLIENT_ID", srv.ClientID())
	t.Setenv("BITRIX24_CLIENT_SECRET", srv.ClientSecret())
	t.Setenv("BITRIX24_TOKEN_URL", srv.TokenURL())
	in, typed := io.Pipe()
	read, errOut := io.Pipe()
	s := &session{in: typed, shown: make(chan *url.URL, 1), status: make(chan int, 1)}
	go func() {
		status := run(t.Context(), args, in, &s.out, errOut)
		errOut.Close()
		in.Close()
		s.status <- status
	}()
	go func() {
		defer close(s.shown)
		for lines := bufio.NewScanner(io.TeeReader(read, &s.said)); lines.Scan(); {
			if u, err := url.Parse(authorizeURL.FindString(lines.Text())); err == nil && u.Host != "" {
				s.shown <- u
			}
		}
	}()
	return s
}

// sent returns the address that the user is to open.
func (s *session) sent(t *testing.T) *url.URL {
	t.Helper()
	u, ok := <-s.shown
	if !ok {
		t.Fatalf("the command has shown no address: %s", s.said.String())
	}
	return u
}

// end returns the status, and all that was said on stderr.
func (s *session) end() (int, string) {
	for range s.shown {
	}
	return <-s.status, s.said.String()
}

func TestLoginStoresWhatTheCodeInAPastedAddressBrings(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	store := "file:" + t.TempDir()
	s := begin(t, srv, "login", "--portal", srv.URL(), "--key", "example", "--store", store)
	u := s.sent(t)
	if got := u.Query().Get("client_id"); got != srv.ClientID() {
		t.Errorf("the user is sent for the application %q", got)
	}
	io.WriteString(s.in, "https://example.com/landing?"+url.Values{"code": {srv.Code()}, "state": {u.Query().Get("state")}}.Encode()+"\n")
	status, said := s.end()
	if status != 0 || !strings.Contains(s.out.String(), "stored example") {
		t.Fatalf("status %d: %s%s", status, s.out.String(), said)
	}
	if !strings.Contains(said, "within 30s") {
		t.Errorf("how long the code lives was not said: %s", said)
	}
	var out, errOut bytes.Buffer
	if status := run(t.Context(), []string{"call", "example", "profile", "--store", store}, nil, &out, &errOut); status != 0 {
		t.Errorf("the grant cannot be used: %s", errOut.String())
	}
}

func TestLoginTakesNothingThatItDidNotAskFor(t *testing.T) {
	for name, test := range map[string]struct {
		typed  func(srv *b24test.Server, state string) string
		status int
		want   string
	}{
		"another state":  {func(srv *b24test.Server, _ string) string { return "https://x/?state=another&code=" + srv.Code() }, 1, "its state is another one"},
		"no state":       {func(srv *b24test.Server, _ string) string { return "https://x/?code=" + srv.Code() }, 1, "its state is another one"},
		"no code":        {func(_ *b24test.Server, state string) string { return "https://x/?state=" + state }, 1, "has sent no code"},
		"no address":     {func(*b24test.Server, string) string { return "yes" }, 1, "is no address with a code"},
		"nothing":        {func(*b24test.Server, string) string { return "" }, 1, "is no address with a code"},
		"a spent code":   {func(_ *b24test.Server, state string) string { return "https://x/?code=spent&state=" + state }, 4, "a code lives for 30s"},
		"a broken query": {func(_ *b24test.Server, state string) string { return "https://x/?%zz;=&" }, 1, "its state is another one"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := b24test.NewServer()
			defer srv.Close()
			s := begin(t, srv, "login", "--portal", srv.URL(), "--store", "file:"+t.TempDir())
			state := s.sent(t).Query().Get("state")
			io.WriteString(s.in, test.typed(srv, state)+"\n")
			status, said := s.end()
			if status != test.status || !strings.Contains(said, test.want) || !strings.Contains(said, "to repair it: b24oauth ") {
				t.Errorf("status %d, want %d with %q: %s", status, test.status, test.want, said)
			}
			if strings.Contains(said, srv.ClientSecret()) {
				t.Error("the client secret was told")
			}
		})
	}
}

func TestLoginRefusesAnotherPortalsCode(t *testing.T) {
	srv, asked := b24test.NewServer(), b24test.NewServer()
	defer srv.Close()
	defer asked.Close()
	s := begin(t, srv, "login", "--portal", asked.URL(), "--store", "file:"+t.TempDir())
	state := s.sent(t).Query().Get("state")
	io.WriteString(s.in, "https://x/?code="+srv.Code()+"&state="+state+"\n")
	status, said := s.end()
	if status != 1 || !strings.Contains(said, "nothing was stored") {
		t.Errorf("status %d: %s", status, said)
	}
}

func TestLoginSendsNobodyBeforeTheStoreIsKnownToTakeTheGrant(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	s := begin(t, srv, "login", "--portal", srv.URL(), "--store", "sqlite:"+t.TempDir()+"/grants.db")
	status, said := s.end()
	if status != 1 || authorizeURL.MatchString(said) || !strings.Contains(said, "to repair it: b24oauth create-table") {
		t.Errorf("status %d: %s", status, said)
	}
}

func TestLoginRefusesAPortalOrARedirectThatIsNone(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	for _, args := range [][]string{
		{"login"},
		{"login", "--portal", ""},
		{"login", "--portal", "https://"},
		{"login", "--portal", "user:password@example.bitrix24.com"},
		{"login", "--portal", srv.URL(), "--redirect", "http://example.com:80/"},
		{"login", "--portal", srv.URL(), "--redirect", "https://127.0.0.1:8026/"},
		{"login", "--portal", srv.URL(), "--redirect", "http://127.0.0.1/"},
	} {
		s := begin(t, srv, append(args, "--store", "file:"+t.TempDir())...)
		if status, said := s.end(); status != 2 {
			t.Errorf("%q: status %d: %s", args, status, said)
		}
	}
}

func TestTheBrowserThatWasSentIsTakenBackAndNoOther(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := make(chan url.Values, 1)
	go func() {
		q, err := landed(t.Context(), l, "the-state")
		if err != nil {
			t.Error(err)
		}
		came <- q
	}()
	at := "http://" + l.Addr().String() + "/callback?"
	for query, want := range map[string]int{"": 400, "code=x": 400, "code=x&state=other": 400} {
		if got := get(t, at+query); got != want {
			t.Errorf("%q is answered with %d", query, got)
		}
	}
	if got := get(t, at+"code=the-code&state=the-state"); got != 200 {
		t.Errorf("the browser is answered with %d", got)
	}
	if q := <-came; q.Get("code") != "the-code" {
		t.Errorf("the browser brought %v", q)
	}
}

func get(t *testing.T, address string) int {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestLoginEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := landed(ctx, l, "state"); err != context.Canceled {
		t.Errorf("the error is %v", err)
	}
	p := &program{in: neverRead{}, errOut: io.Discard}
	if _, err := p.pasted(ctx); err == nil {
		t.Error("nothing was pasted, and there is no error")
	}
}

// neverRead is a terminal at which nobody types.
type neverRead struct{}

func (neverRead) Read([]byte) (int, error) { select {} }
