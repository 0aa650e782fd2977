package bench

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"golang.org/x/oauth2"
)

// newProgram returns b24oauth with a token that is valid for an hour, and the
// base of its portal's methods. No request reaches a server in a benchmark.
func newProgram(b *testing.B) (_ *b24oauth.TokenSource, endpoint string) {
	b.Helper()
	srv := b24test.NewMemoryServer()
	b.Cleanup(srv.Close)
	config, g := srv.Config(), srv.Install()
	g.ClientEndpoint = "https://example.bitrix24.com/rest/" // as long as a portal's address is
	if err := config.Save(b.Context(), "portal", g); err != nil {
		b.Fatal(err)
	}
	source := config.TokenSource("portal")
	if _, err := source.Token(); err != nil {
		b.Fatal(err)
	}
	return source, g.ClientEndpoint
}

// BenchmarkToken is one call for a token that is valid, as before every
// request. azcore is missing, whose cache cannot be called without a request.
func BenchmarkToken(b *testing.B) {
	source, _ := newProgram(b)
	calls := []struct {
		name string
		call func(context.Context) error
	}{{ours, func(context.Context) error {
		_, err := source.Token()
		return err
	}}}
	for _, l := range others {
		if l.name != "azcore" {
			issuer := &issuer{life: lifetime}
			calls = append(calls, struct {
				name string
				call func(context.Context) error
			}{l.name, l.over(issuer.fetch, 0)})
		}
	}
	for _, c := range calls {
		ctx := b.Context()
		if err := c.call(ctx); err != nil {
			b.Fatal(err)
		}
		b.Run("goroutines=1/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.call(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("goroutines=128/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(max(128/runtime.GOMAXPROCS(0), 1))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.call(ctx); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// stub is a portal that reads a request and serves it at once.
var stub = tripper(func(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		if err := req.Body.Close(); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
})

// BenchmarkTransport is one request over a portal that takes no time. What a
// transport costs is the difference to the one without. b24oauth does more
// than set a header: it looks where the request goes, and puts the token into
// the body or the query.
func BenchmarkTransport(b *testing.B) {
	source, endpoint := newProgram(b)
	static := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "token", Expiry: time.Now().Add(lifetime)}, nil)
	transports := []struct {
		name string
		http.RoundTripper
	}{
		{"none", stub},
		{"x/oauth2", &oauth2.Transport{Source: static, Base: stub}},
		{"b24oauth", &b24oauth.Transport{Source: source, Base: stub}},
		{"b24oauth in the query", &b24oauth.Transport{Source: source, Base: stub, Placement: b24oauth.PlaceQuery}},
		{"b24oauth in the header", &b24oauth.Transport{Source: source, Base: stub, Placement: b24oauth.PlaceHeader}},
	}
	requests := []struct{ name, method, query, body string }{
		{"GET", http.MethodGet, "?filter[ID]=1&select[]=ID", ""},
		{"POST", http.MethodPost, "", `{"filter":{"ID":1},"select":["ID"]}`},
	}
	for _, r := range requests {
		for _, t := range transports {
			b.Run(r.name+"/"+t.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var body io.Reader
					if r.body != "" {
						body = strings.NewReader(r.body)
					}
					req, err := http.NewRequestWithContext(b.Context(), r.method, endpoint+"crm.deal.list"+r.query, body)
					if err != nil {
						b.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/json")
					resp, err := t.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					if err := resp.Body.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
