package b24oauth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
)

// overHTTP2 starts a server that speaks HTTP/2, and returns a client that
// trusts it.
func overHTTP2(t *testing.T, handle http.HandlerFunc) (*httptest.Server, *http.Client) {
	t.Helper()
	ts := httptest.NewUnstartedServer(handle)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return ts, ts.Client()
}

// headers is what a trace heard, and the context in which it listens.
type headers struct {
	context.Context
	mu    sync.Mutex // guards heard
	heard map[string]string
}

func listen(ctx context.Context) *headers {
	h := &headers{heard: make(map[string]string)}
	h.Context = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(name string, values []string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.heard[name] = strings.Join(values, ",")
		},
	})
	return h
}

func (h *headers) check(t *testing.T, path string, secrets ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := h.heard[":path"]; got != path {
		t.Errorf("the trace heard the path %q, want %q", got, path)
	}
	for name, value := range h.heard {
		for _, secret := range secrets {
			if strings.Contains(value, secret) {
				t.Errorf("the trace heard a secret: %s: %s", name, value)
			}
		}
	}
}

func TestTraceThatIsNilUnderAnotherKeyIsHandedOn(t *testing.T) {
	type own struct{}
	ctx := listen(context.WithValue(t.Context(), own{}, (*httptrace.ClientTrace)(nil)))
	p := newProgramAt(t, stubPortal)
	resp, err := p.over(tripper(func(req *http.Request) (*http.Response, error) {
		if trace, ok := req.Context().Value(own{}).(*httptrace.ClientTrace); !ok || trace != nil {
			t.Errorf("the value became %v", trace)
		}
		return answer(200, "{}"), nil
	})).RoundTrip(get(t, stubPortal+"m").WithContext(ctx))
	status(t, resp, err)
}

func TestGuarantee8TraceOfTheCallerHearsNoSecretOverHTTP2(t *testing.T) {
	portal, client := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came by %s", r.Proto)
		}
	})
	for _, placement := range []b24oauth.Placement{b24oauth.PlaceAuto, b24oauth.PlaceHeader} {
		p := newProgramAt(t, portal.URL+"/rest/")
		tr := p.over(client.Transport)
		tr.Placement = placement
		ctx := listen(t.Context())
		req := get(t, portal.URL+"/rest/m?id=1").WithContext(ctx)
		req.Header.Set("X-Own", "own")
		resp, err := tr.RoundTrip(req)
		status(t, resp, err)
		ctx.check(t, "/rest/m", "first")
		if got := ctx.heard["x-own"]; got != "own" {
			t.Errorf("placement %d: the trace heard X-Own: %q", placement, got)
		}
		if got := ctx.heard["authorization"]; (got != "") != (placement == b24oauth.PlaceHeader) {
			t.Errorf("placement %d: the trace heard Authorization: %q", placement, got)
		}
	}

	server, client := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"access_token":"first","refresh_token":"second","client_endpoint":"https://portal.example/rest/"}`))
	})
	c := endpointConfig(nil, func(c *b24oauth.Config) { c.HTTPClient, c.TokenURL = client, server.URL+"/oauth/token/" })
	ctx := listen(t.Context())
	if _, err := c.Exchange(ctx, "the-code", ""); err != nil {
		t.Fatal(err)
	}
	ctx.check(t, "/oauth/token/", "the-code", "the-client-secret")
}
