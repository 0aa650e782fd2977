package integration

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
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
)

// everyHandler writes each record as text and as JSON, whatever its level.
func everyHandler(w io.Writer) slog.Handler {
	all := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	return slog.NewMultiHandler(slog.NewTextHandler(w, all), slog.NewJSONHandler(w, all))
}

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
func capture(t *testing.T) func() []told {
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
	return func() []told {
		t.Helper()
		restore()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return []told{{"stdout or stderr", string(text)}}
	}
}

// tellEvent is what a program can make of an event.
func tellEvent(e b24oauth.Event) []told {
	all := tellValue("the event", e)
	all = append(all, tellValue("the event by pointer", &e)...)
	all = append(all, told{"a log line of the event", logged("event", e) + logged("event", &e)})
	return append(all, tellError(e.Err)...)
}

// tellFiles is the names and the content of all files below dir.
func tellFiles(t *testing.T, dir string) []told {
	t.Helper()
	var all []told
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, told{"the name of a file", d.Name()}, told{"a file", string(content)})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// tellSpans is all that was exported of some spans.
func tellSpans(spans tracetest.SpanStubs) []told {
	var all []told
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
		all = append(all, told{"a span", text}, told{"a span under %+v", fmt.Sprintf("%+v", s)})
	}
	return all
}

func tellPlantedSpan(t *testing.T, secret string) []told {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	_, span := provider.Tracer("test").Start(t.Context(), "span")
	span.SetAttributes(attribute.String("url.full", "http://portal.localhost/?auth="+secret))
	span.End()
	return tellSpans(exporter.GetSpans())
}

// A stranger is a host that has no business with any secret. It keeps what
// it is told.
type stranger struct {
	*httptest.Server
	mu       sync.Mutex
	requests []told
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := new(stranger)
	s.Server = quietServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, told{"a request to a stranger", fmt.Sprint(r.Method, " ", r.Host, r.RequestURI, r.Header, string(body), err)})
	}))
	return s
}

func (s *stranger) tell() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// quietServer is a server on loopback whose own log goes nowhere.
func quietServer(t *testing.T, h http.Handler) *httptest.Server {
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
