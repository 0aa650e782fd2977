package integration

import (
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

func slogTo(w io.Writer) *slog.Logger { return slog.New(everyHandler(w)) }

// ownConnections is http.DefaultTransport with connections of its own, which
// end with the test.
func ownConnections(t *testing.T) *http.Transport {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// restClients are the clients that a user may bring for REST calls. Each
// returns what it wrote elsewhere, above our Transport.
var restClients = []struct {
	name  string
	build func(w *world) (*http.Client, func() []told)
}{
	{"the client of Config", func(w *world) (*http.Client, func() []told) {
		w.t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
		return w.config.Client(canaryKey), nothingMore
	}},
	{"an http.Client", func(w *world) (*http.Client, func() []told) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(w.t))}, nothingMore
	}},
	{"a token in the query always", func(w *world) (*http.Client, func() []told) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceQuery, ownConnections(w.t))}, nothingMore
	}},
	{"a token in the header", func(w *world) (*http.Client, func() []told) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceHeader, ownConnections(w.t))}, nothingMore
	}},
	{"a source that only supplies the token", func(w *world) (*http.Client, func() []told) {
		source := struct{ oauth2.TokenSource }{w.config.TokenSource(canaryKey)}
		return &http.Client{Transport: &b24oauth.Transport{Source: source, Base: ownConnections(w.t)}}, nothingMore
	}},
	{"go-retryablehttp above", func(w *world) (*http.Client, func() []told) {
		c := impatient()
		c.Logger = log.New(os.Stderr, "", log.LstdFlags) // its default, whose os.Stderr is older than the test
		c.HTTPClient = &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(w.t))}
		return c.StandardClient(), nothingMore
	}},
	{"go-retryablehttp below", func(w *world) (*http.Client, func() []told) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceAuto, below(w.t))}, nothingMore
	}},
	{"otelhttp above", func(w *world) (*http.Client, func() []told) {
		exporter := tracetest.NewInMemoryExporter()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
		tr := otelhttp.NewTransport(w.transport(b24oauth.PlaceAuto, ownConnections(w.t)), otelhttp.WithTracerProvider(provider))
		return &http.Client{Transport: tr}, func() []told {
			if spans := exporter.GetSpans(); len(spans) == 0 {
				w.t.Error("otelhttp exported no span")
			}
			return tellSpans(exporter.GetSpans())
		}
	}},
}

func nothingMore() []told { return nil }

// tokenClients are the clients that a user may bring for token requests.
var tokenClients = []struct {
	name string
	set  func(t *testing.T, c *b24oauth.Config)
}{
	{"our own client", func(*testing.T, *b24oauth.Config) {}},
	{"our own client and POST", func(_ *testing.T, c *b24oauth.Config) { c.TokenMethod = http.MethodPost }},
	{"an http.Client", func(t *testing.T, c *b24oauth.Config) { c.HTTPClient = &http.Client{Transport: ownConnections(t)} }},
	{"go-retryablehttp below", func(t *testing.T, c *b24oauth.Config) { c.HTTPClient = &http.Client{Transport: below(t)} }},
	{"go-retryablehttp's standard client", func(t *testing.T, c *b24oauth.Config) {
		c.HTTPClient = below(t).Client.StandardClient()
	}},
}

// below is go-retryablehttp where it sees the real requests: its log must
// have them and is not looked at. It follows no redirect, as a RoundTripper
// must not.
func below(t *testing.T) *retryablehttp.RoundTripper {
	t.Helper()
	c := impatient()
	c.Logger = log.New(io.Discard, "", 0)
	c.HTTPClient = &http.Client{
		Transport:     ownConnections(t),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &retryablehttp.RoundTripper{Client: c}
}

func impatient() *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = 1, time.Millisecond, time.Millisecond
	return c
}

func (w *world) transport(placement b24oauth.Placement, base http.RoundTripper) *b24oauth.Transport {
	return &b24oauth.Transport{Source: w.config.TokenSource(canaryKey), Base: base, Placement: placement}
}

// restRequests are the shapes of a call.
var restRequests = []struct {
	name, method, contentType, body string
}{
	{"GET", http.MethodGet, "", ""},
	{"a form", http.MethodPost, "application/x-www-form-urlencoded", "id=1"},
	{"JSON", http.MethodPost, "application/json", `{"id":1}`},
}
