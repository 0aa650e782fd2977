package integration

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

// buffer collects what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// capture collects what the process writes to stdout and stderr, until the
// test ends or the returned function is called, which returns it.
func capture(t *testing.T) func() []canary.Output {
	t.Helper()
	path := filepath.Join(t.TempDir(), "output")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, logs := os.Stdout, os.Stderr, log.Writer()
	os.Stdout, os.Stderr = file, file
	log.SetOutput(file)
	restore := sync.OnceFunc(func() {
		os.Stdout, os.Stderr = stdout, stderr
		log.SetOutput(logs)
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(restore)
	return func() []canary.Output {
		t.Helper()
		restore()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return []canary.Output{{Place: "stdout or stderr", Text: string(text)}}
	}
}

// ofEvent is what a program can make of an event.
func ofEvent(e b24oauth.Event) []canary.Output {
	all := canary.Value("the event", e)
	all = append(all, canary.Value("the event by pointer", &e)...)
	return append(all, canary.Error(e.Err)...)
}

// ofFiles is the names and the content of all files below dir.
func ofFiles(t *testing.T, dir string) []canary.Output {
	t.Helper()
	var all []canary.Output
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, canary.Output{Place: "the name of a file", Text: d.Name()}, canary.Output{Place: "a file", Text: string(content)})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// ofSpans is all that was exported of some spans.
func ofSpans(spans tracetest.SpanStubs) []canary.Output {
	var all []canary.Output
	for _, s := range spans {
		attributes := func(list []attribute.KeyValue) (text string) {
			for _, a := range list {
				text += fmt.Sprintf("%s=%s\n", a.Key, a.Value.String())
			}
			return text
		}
		text := s.Name + "\n" + s.Status.Description + "\n" + attributes(s.Attributes)
		for _, e := range s.Events {
			text += e.Name + "\n" + attributes(e.Attributes)
		}
		for _, l := range s.Links {
			text += attributes(l.Attributes)
		}
		all = append(all, canary.Output{Place: "a span", Text: text}, canary.Output{Place: "a span under %+v", Text: fmt.Sprintf("%+v", s)})
	}
	return all
}

func ofPlantedSpan(t *testing.T, secret string) []canary.Output {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	_, span := provider.Tracer("test").Start(t.Context(), "span")
	span.SetAttributes(attribute.String("url.full", "http://portal.localhost/?auth="+secret))
	span.End()
	return ofSpans(exporter.GetSpans())
}

// A stranger is a host that has no business with any secret. It keeps what
// it hears.
type stranger struct {
	*httptest.Server
	mu       sync.Mutex
	requests []canary.Output
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := new(stranger)
	s.Server = serverWithoutLog(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, canary.Output{Place: "a request to a stranger", Text: fmt.Sprint(r.Method, " ", r.Host, r.RequestURI, r.Header, string(body), err)})
	}))
	return s
}

func (s *stranger) heard() []canary.Output {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// serverWithoutLog is a server on loopback whose own log goes nowhere.
func serverWithoutLog(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}
