// Package sandbox is what a developer sees and moves of a portal that runs on his
// machine: a page at /_sandbox/ with the grants, the counts and the requests as they
// come, and the same for scripts.
//
//	GET  /_sandbox/          the page
//	GET  /_sandbox/state     what it shows, as JSON
//	GET  /_sandbox/events    each request as it is answered (server-sent events)
//	POST /_sandbox/install   a new grant
//	POST /_sandbox/expire    end all access tokens
//	POST /_sandbox/kill      end all refresh tokens
//	POST /_sandbox/rename    move the portal to another address
//	POST /_sandbox/limit     n: refuse the next n calls, too many requests
//	POST /_sandbox/cut       n: lose the answers to the next n token requests
//	POST /_sandbox/trigger   event, forward_to, data[…]: send an event to a program
//
// Parameters are a form. Every POST answers JSON, and so does every error, which
// says what to do. Nothing changes by a GET.
package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/guard"
)

// Path is where the page is, at every address of the portal.
const Path = "/_sandbox/"

// A Sandbox is the page of a portal. Make one with [Open].
type Sandbox struct {
	server *b24test.Server
	feed   feed

	mu        sync.Mutex      // guards what follows
	installer *b24oauth.Grant // for whom events are sent; nil: the application is not installed
}

// Open serves the page at srv, and gives srv a few methods with data to show. It may
// be asked for by loopback names and addresses, and by the hosts. The caller closes
// srv, which ends the page.
func Open(srv *b24test.Server, hosts ...string) *Sandbox {
	s := &Sandbox{server: srv, feed: feed{changed: make(chan struct{})}}
	seed(srv)
	srv.Watch(s.feed.add)
	srv.Handle(Path, guard.Loopback(s.routes(), hosts...))
	return s
}

// Install installs the application for a new administrator of the portal.
func (s *Sandbox) Install() Grant {
	g := s.server.Install()
	s.mu.Lock()
	s.installer = g
	s.mu.Unlock()
	s.feed.notify()
	return grantOf(g)
}

// actions are what a POST does.
func (s *Sandbox) actions() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"install": func(*http.Request) (any, error) { return s.Install(), nil },
		"expire":  func(*http.Request) (any, error) { return s.end(s.server.ExpireAccessTokens), nil },
		"kill":    func(*http.Request) (any, error) { return s.end(s.server.KillGrants), nil },
		"rename":  func(*http.Request) (any, error) { return s.rename(), nil },
		"limit":   func(r *http.Request) (any, error) { return countdown(r, s.server.RateLimit) },
		"cut":     func(r *http.Request) (any, error) { return countdown(r, s.server.CutTokens) },
		"trigger": func(r *http.Request) (any, error) { return s.trigger(r) },
	}
}

func (s *Sandbox) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+"{$}", s.page)
	mux.Handle("GET "+Path+"page/", http.StripPrefix(Path, http.FileServerFS(files)))
	mux.HandleFunc("GET "+Path+"state", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.state()) })
	mux.HandleFunc("GET "+Path+"events", s.events)
	var names []string
	for name, do := range s.actions() {
		names = append(names, name)
		mux.HandleFunc("POST "+Path+name, func(w http.ResponseWriter, r *http.Request) { act(w, r, do) })
	}
	slices.Sort(names)
	mux.HandleFunc(Path, func(w http.ResponseWriter, r *http.Request) {
		if name := strings.TrimPrefix(r.URL.Path, Path); slices.Contains(names, name) {
			w.Header().Set("Allow", http.MethodPost)
			answer(w, http.StatusMethodNotAllowed, problem("use_post", "This changes something, so ask by POST: curl -X POST %s", r.URL.Path))
			return
		}
		answer(w, http.StatusNotFound, problem("not_found", "There are GET %s, GET %[1]sstate, GET %[1]sevents and POST %[1]s{%s}.", Path, strings.Join(names, ",")))
	})
	return secured(mux)
}

// secured keeps whatever a page might contain from running or asking for anything
// that is not the sandbox's.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// maxForm is how much a POST may bring.
const maxForm = 64 << 10

func act(w http.ResponseWriter, r *http.Request, do func(*http.Request) (any, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, problem("bad_form", "The body is no form of up to %d bytes: send name=value&…, as curl -d does.", maxForm))
		return
	}
	result, err := do(r)
	switch p, ok := err.(*Problem); {
	case ok:
		answer(w, p.status, p)
	case err != nil:
		answer(w, http.StatusInternalServerError, problem("failed", "%v", err))
	default:
		answer(w, http.StatusOK, result)
	}
}

// Problem is an error as the sandbox answers it, in the form of Bitrix24's. The
// description says what to do.
type Problem struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	status      int
}

func (p *Problem) Error() string { return p.Description }

func problem(code, format string, args ...any) *Problem {
	return &Problem{code, fmt.Sprintf(format, args...), http.StatusBadRequest}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// A failure means that the client has gone.
	_ = json.NewEncoder(w).Encode(v)
}

// end does something to the grants, and returns how all of them are then.
func (s *Sandbox) end(what func()) any {
	what()
	s.feed.notify()
	return struct {
		Grants []Standing `json:"grants"`
	}{s.standings()}
}

func (s *Sandbox) rename() any {
	old := s.server.Rename()
	s.feed.notify()
	return struct {
		Portal   string `json:"portal"`
		Endpoint string `json:"endpoint"`
		Former   string `json:"former"`
	}{s.server.URL(), s.server.Endpoint(), old}
}

// countdown sets what happens to the next n requests: 1 if n is not given.
func countdown(r *http.Request, set func(n int)) (any, error) {
	n := 1
	if text := r.Form.Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return nil, problem("bad_number", "n is how many requests it happens to, a number from 0 (no more) on: curl -d n=3 %s", r.URL.Path)
		}
	}
	set(n)
	return struct {
		N int `json:"n"`
	}{n}, nil
}
