package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

func slogTo(w io.Writer) *slog.Logger { return slog.New(canary.LogHandler(w)) }

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
	build func(w *world) (*http.Client, func() []canary.Output)
}{
	{"the client of Config", func(w *world) (*http.Client, func() []canary.Output) {
		w.t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
		return w.config.Client(canaryKey), nothingMore
	}},
	{"an http.Client", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(w.t))}, nothingMore
	}},
	{"a token in the query always", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceQuery, ownConnections(w.t))}, nothingMore
	}},
	{"a token in the header", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceHeader, ownConnections(w.t))}, nothingMore
	}},
	{"a source that only supplies the token", func(w *world) (*http.Client, func() []canary.Output) {
		source := struct{ oauth2.TokenSource }{w.config.TokenSource(canaryKey)}
		return &http.Client{Transport: &b24oauth.Transport{Source: source, Base: ownConnections(w.t)}}, nothingMore
	}},
	{"go-retryablehttp above", func(w *world) (*http.Client, func() []canary.Output) {
		c := impatient()
		c.Logger = log.New(os.Stderr, "", log.LstdFlags) // its default, whose os.Stderr is older than the test
		c.HTTPClient = &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(w.t))}
		return c.StandardClient(), nothingMore
	}},
	{"go-retryablehttp below", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceAuto, below(w.t))}, nothingMore
	}},
	{"HTTP/2 with a trace in the context", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: traced{w, w.transport(b24oauth.PlaceAuto, overHTTP2(w.t))}}, nothingMore
	}},
	{"HTTP/2 with a trace in the context and a token in the header", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: traced{w, w.transport(b24oauth.PlaceHeader, overHTTP2(w.t))}}, nothingMore
	}},
	{"a proxy", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceQuery, through(w.t, w.portal))}, nothingMore
	}},
	{"a transport with errors of its own", func(w *world) (*http.Client, func() []canary.Output) {
		return &http.Client{Transport: w.transport(b24oauth.PlaceQuery, wordy{ownConnections(w.t)})}, nothingMore
	}},
	{"otelhttp above", func(w *world) (*http.Client, func() []canary.Output) {
		exporter := tracetest.NewInMemoryExporter()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
		tr := otelhttp.NewTransport(w.transport(b24oauth.PlaceAuto, ownConnections(w.t)), otelhttp.WithTracerProvider(provider))
		return &http.Client{Transport: tr}, func() []canary.Output {
			if spans := exporter.GetSpans(); len(spans) == 0 {
				w.t.Error("otelhttp exported no span")
			}
			return ofSpans(exporter.GetSpans())
		}
	}},
}

func nothingMore() []canary.Output { return nil }

// tokenClients are the clients that a user may bring for token requests.
var tokenClients = []struct {
	name string
	set  func(w *world, c *b24oauth.Config)
}{
	{"our own client", func(*world, *b24oauth.Config) {}},
	{"our own client and POST", func(_ *world, c *b24oauth.Config) { c.TokenMethod = http.MethodPost }},
	{"http.DefaultClient", func(_ *world, c *b24oauth.Config) { c.TokenClient = http.DefaultClient }},
	{"an http.Client", func(w *world, c *b24oauth.Config) { c.TokenClient = &http.Client{Transport: ownConnections(w.t)} }},
	{"HTTP/2", func(w *world, c *b24oauth.Config) { c.TokenClient = &http.Client{Transport: overHTTP2(w.t)} }},
	{"a proxy", func(w *world, c *b24oauth.Config) { c.TokenClient = &http.Client{Transport: through(w.t, w.server)} }},
	{"a transport with errors of its own", func(w *world, c *b24oauth.Config) {
		c.TokenClient = &http.Client{Transport: wordy{ownConnections(w.t)}}
	}},
	{"a transport that panics", func(w *world, c *b24oauth.Config) {
		c.TokenClient = &http.Client{Transport: panicking{ownConnections(w.t)}}
	}},
	{"go-retryablehttp below", func(w *world, c *b24oauth.Config) { c.TokenClient = &http.Client{Transport: below(w.t)} }},
	{"go-retryablehttp's standard client with its default log", func(_ *world, c *b24oauth.Config) {
		client := impatient()
		client.Logger = log.New(os.Stderr, "", log.LstdFlags)
		c.TokenClient = client.StandardClient()
	}},
}

// below is go-retryablehttp where it sees the real requests: its log must
// have them and is not looked at.
func below(t *testing.T) *retryablehttp.RoundTripper {
	t.Helper()
	c := impatient()
	c.Logger = log.New(io.Discard, "", 0)
	c.HTTPClient = &http.Client{Transport: ownConnections(t)}
	return &retryablehttp.RoundTripper{Client: c}
}

// overHTTP2 speaks HTTP/2, also without TLS.
func overHTTP2(t *testing.T) *http.Transport {
	t.Helper()
	tr := ownConnections(t)
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP2(true)
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

// through takes s for a proxy: each request has its whole URL in its first
// line.
func through(t *testing.T, s *httptest.Server) *http.Transport {
	t.Helper()
	proxy, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := ownConnections(t)
	tr.Proxy = http.ProxyURL(proxy)
	return tr
}

// wordy is a transport whose errors keep the request in every way there is.
type wordy struct{ http.RoundTripper }

func (tr wordy) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := tr.RoundTripper.RoundTrip(req)
	if err != nil {
		quoting := &url.Error{Op: req.Method, URL: req.URL.String(), Err: err}
		return nil, &wordyError{Request: &struct{ URL string }{req.URL.String()}, Header: req.Header, cause: errors.Join(quoting, err)}
	}
	return resp, nil
}

type wordyError struct {
	Request *struct{ URL string }
	Header  http.Header
	cause   error
}

func (*wordyError) Error() string   { return "not sent" }
func (e *wordyError) Unwrap() error { return e.cause }

// panicking is a transport that takes an error for the end of the world.
type panicking struct{ http.RoundTripper }

func (tr panicking) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := tr.RoundTripper.RoundTrip(req)
	if err != nil {
		panic(&url.Error{Op: req.Method, URL: req.URL.String(), Err: err})
	}
	return resp, nil
}

// traced listens to all that net/http tells the caller of a request.
type traced struct {
	w    *world
	base http.RoundTripper
}

func (tr traced) RoundTrip(req *http.Request) (*http.Response, error) {
	return tr.base.RoundTrip(req.WithContext(tr.w.traced(req.Context())))
}

func (w *world) traced(ctx context.Context) context.Context {
	hear := func(what string, v ...any) {
		w.collect([]canary.Output{{Place: "the trace of " + what, Text: fmt.Sprintf("%+v", v)}})
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(host string) { hear("GetConn", host) },
		GotConn:              func(info httptrace.GotConnInfo) { hear("GotConn", info.Reused, info.WasIdle) },
		PutIdleConn:          func(err error) { hear("PutIdleConn", err) },
		GotFirstResponseByte: func() { hear("GotFirstResponseByte") },
		ConnectStart:         func(network, addr string) { hear("ConnectStart", network, addr) },
		ConnectDone:          func(network, addr string, err error) { hear("ConnectDone", network, addr, err) },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { hear("TLSHandshakeDone", err) },
		WroteHeaderField:     func(key string, value []string) { hear("WroteHeaderField", key, value) },
		WroteHeaders:         func() { hear("WroteHeaders") },
		WroteRequest:         func(info httptrace.WroteRequestInfo) { hear("WroteRequest", info.Err) },
	})
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
	name, method, path, contentType, body string
}{
	{"GET", http.MethodGet, "crm.deal.list?id=7", "", ""},
	{"a form", http.MethodPost, "crm.deal.list?id=7", "application/x-www-form-urlencoded", "id=1"},
	{"JSON", http.MethodPost, "crm.deal.list?id=7", "application/json", `{"id":1}`},
	{"version 3", http.MethodPost, "api/tasks.task.get", "application/json", `{"id":1}`},
	{"multipart", http.MethodPost, "disk.file.upload", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n1\r\n--x--\r\n"},
}
