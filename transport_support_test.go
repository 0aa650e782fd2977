package b24oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"

	expiredBody = `{"error":"expired_token","error_description":"The access token provided has expired."}`
	v3Denied    = `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`
)

var (
	expired = b24test.Answer{Status: http.StatusUnauthorized, Body: expiredBody}
	denied  = b24test.Answer{Status: http.StatusUnauthorized, Body: v3Denied}
)

// over returns the program's Transport over another Base.
func (p *program) over(base http.RoundTripper) *b24oauth.Transport {
	return &b24oauth.Transport{Source: p.source, Base: base}
}

// base is what reaches the program's servers, without a token.
func (p *program) base() http.RoundTripper { return p.Client().Transport }

// newProgramAt starts a program whose portal is the test's own: its grant
// names that endpoint, with the access token "first", and refreshes bring
// "second" and name it again.
func newProgramAt(t *testing.T, endpoint string, change ...func(*b24oauth.Config)) *program {
	t.Helper()
	p := newProgramWithoutGrant(t, change...)
	g := p.Install()
	g.MemberID, g.ClientEndpoint, g.AccessToken, g.RefreshToken = "own", endpoint, "first", "refresh-first"
	if err := p.config.Save(context.Background(), key, g); err != nil {
		t.Fatal(err)
	}
	p.FailTokens(1<<20, b24test.Answer{Status: http.StatusOK, Body: fmt.Sprintf(
		`{"access_token":"second","refresh_token":"refresh-second","expires_in":3600,"client_endpoint":%q}`, endpoint)})
	return p
}

// refreshesAt is how often a refresh of newProgramAt was asked for.
func (p *program) refreshesAt() int { return len(p.TokenRequests()) }

// stubPortal is where the requests go that a stub answers.
const stubPortal = "https://portal.example/rest/"

// answer makes a response to a request that a stub has read.
func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {jsonType}},
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
}

// portal answers as portals do: it reads the body, closes it, and looks
// whether the token is good, wherever it stands.
func portal(good string) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		body := ""
		if req.Body != nil {
			data, err := io.ReadAll(req.Body)
			req.Body.Close()
			if err != nil {
				return nil, err
			}
			body = string(data)
		}
		if strings.Contains(req.URL.RawQuery+body+req.Header.Get("Authorization"), good) {
			return answer(200, `{"result":true}`), nil
		}
		return answer(401, expiredBody), nil
	}
}

// post makes a request with a body, of a known length and again at hand if it
// is a string.
func post(t testing.TB, url, contentType string, body any) *http.Request {
	t.Helper()
	var r io.Reader
	switch body := body.(type) {
	case string:
		r = strings.NewReader(body)
	case io.Reader:
		r = body
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	return req
}

func get(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// watched is a body that counts how often it was closed and notices who reads
// it afterwards.
type watched struct {
	r      io.Reader
	closes atomic.Int32
	late   atomic.Bool
	closed chan struct{}
}

func watch(body string) *watched { return watchReader(strings.NewReader(body)) }

func watchReader(r io.Reader) *watched { return &watched{r: r, closed: make(chan struct{})} }

func (w *watched) Read(p []byte) (int, error) {
	if w.closes.Load() > 0 {
		w.late.Store(true)
		return 0, errors.New("read after Close")
	}
	return w.r.Read(p)
}

func (w *watched) Close() error {
	if w.closes.Add(1) == 1 {
		close(w.closed)
	}
	if c, ok := w.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// check waits for the first Close and says what else was wrong.
func (w *watched) check(t *testing.T) {
	t.Helper()
	select {
	case <-w.closed:
	case <-time.After(5 * time.Second):
	}
	if n := w.closes.Load(); n != 1 {
		t.Errorf("the body was closed %d times, want once", n)
	}
	if w.late.Load() {
		t.Error("the body was read after it was closed")
	}
}

// leaks watches what passes a Base: the responses, which have to be closed,
// and the tokens, which have to go to the portal only.
type leaks struct {
	base http.RoundTripper

	mu     sync.Mutex // guards what follows
	bodies []*watched
}

func (l *leaks) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(req)
	if err == nil {
		w := watchReader(resp.Body)
		resp.Body = w
		l.mu.Lock()
		l.bodies = append(l.bodies, w)
		l.mu.Unlock()
	}
	return resp, err
}

// check says whether n responses came and are all closed.
func (l *leaks) check(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bodies) != n {
		t.Errorf("%d responses, want %d", len(l.bodies), n)
	}
	for i, w := range l.bodies {
		if w.closes.Load() == 0 {
			t.Errorf("response %d of %d was not closed", i+1, n)
		}
	}
}

func text(t testing.TB, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustParse(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// unknown hides from net/http what a body is: its length is not known and it
// cannot be had again.
func unknown(body string) io.Reader { return struct{ io.Reader }{bytes.NewReader([]byte(body))} }
