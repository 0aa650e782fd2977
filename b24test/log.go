package b24test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
)

// A Request is what arrived and how it was answered. Its header, body and
// parameters are to be read only.
type Request struct {
	Method string
	Host   string
	Path   string // as sent, still escaped
	Query  string // raw
	Header http.Header

	// Body is what was read of the body, its first MiB at most.
	// ContentLength is what was announced, -1 if nothing was.
	Body          []byte
	ContentLength int64

	// Params are the parameters as PHP sees them, the token included. A form
	// brings strings, a JSON body strings, bools, nils and [json.Number]s; a
	// name with brackets, like filter[ID], brings a nested map[string]any, or
	// []any where PHP has a list. Those of a v3 call are its JSON body alone,
	// and a v3 batch, whose body is a list, has none.
	Params map[string]any

	// Auth is the token that the server found, "" if none, and AuthIn is where:
	// "header", "query" or "body".
	Auth, AuthIn string

	// Status is what was answered, 0 if nothing is yet or ever was, and Code
	// the error code in the answer, "" if none.
	Status int
	Code   string
}

// forToken is whether the request is one of TokenRequests.
func (r *Request) forToken() bool { return strings.HasPrefix(r.Path, "/oauth/") }

const (
	maxLog  = 100      // requests in each log of a Server of Listen
	maxKept = 1 << 20  // of a body in the log
	maxRead = 64 << 20 // of a body at all; beyond it the answer is 413
)

// Requests returns the requests to the portal in the order of their arrival,
// those to an address that it had before included, and app.info at the
// authorization server.
func (s *Server) Requests() []Request { return s.snapshot(&s.calls) }

// TokenRequests returns the requests for tokens in the order of their
// arrival: those under /oauth/ at the authorization server and at the portal.
func (s *Server) TokenRequests() []Request { return s.snapshot(&s.tokens) }

// snapshot copies one of the logs, whose requests may still be running.
func (s *Server) snapshot(log *[]*Request) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := make([]Request, 0, len(*log))
	for _, r := range *log {
		requests = append(requests, *r)
	}
	return requests
}

// Watch calls f, from now on, with each request of [Server.Requests] and
// [Server.TokenRequests] once its answer is decided and before it is sent, or with
// Status 0 once it is given up. The answer waits for f, which is called concurrently
// and may call the Server's methods, but for Close.
func (s *Server) Watch(f func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, f)
}

// Refreshes is how many refresh tokens were exchanged with success, those
// included whose answer was lost.
func (s *Server) Refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rotated
}

// Refusals is how many REST calls the portal refused because of their token:
// it was expired, unknown, missing, or sent along with a webhook.
func (s *Server) Refusals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Reset forgets what arrived: the requests and both counts. The grants, and
// what was set to happen, stay.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.tokens = nil, nil
	s.rotated, s.refused = 0, 0
}

// arrive enters a request into its log, before its body is read, and reads
// the body. An error means that there is nobody to answer.
func (s *Server) arrive(r *http.Request) (*Request, []byte, error) {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	entry := &Request{
		Method:        r.Method,
		Host:          r.Host,
		Path:          path,
		Query:         query,
		Header:        r.Header.Clone(),
		ContentLength: r.ContentLength,
	}
	s.mu.Lock()
	log := &s.calls
	if entry.forToken() {
		log = &s.tokens
	}
	*log = append(*log, entry)
	if s.lasting && len(*log) > maxLog {
		*log = slices.Delete(*log, 0, len(*log)-maxLog)
	}
	s.mu.Unlock()

	var buf bytes.Buffer
	buf.Grow(int(min(max(0, r.ContentLength), maxRead)) + bytes.MinRead)
	_, err := buf.ReadFrom(http.MaxBytesReader(nil, r.Body, maxRead))
	body := buf.Bytes()
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.Body = slices.Clone(body[:min(len(body), maxKept)])
	return entry, body, err
}

// understood enters what the server made of a request.
func (s *Server) understood(entry *Request, params map[string]any, auth, authIn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.Params, entry.Auth, entry.AuthIn = params, auth, authIn
}

// reply enters the answer into the log, then sends it: whoever has the answer
// finds it in the log.
func (s *Server) reply(w http.ResponseWriter, entry *Request, a Answer) {
	if a.Status == 0 {
		a.Status = http.StatusInternalServerError
	}
	s.mu.Lock()
	entry.Status, entry.Code = a.Status, errorCode(a.Body)
	s.mu.Unlock()
	s.tell(entry)

	for name, values := range a.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	if w.Header().Get("Content-Type") == "" && strings.HasPrefix(a.Body, "{") {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(a.Status)
	io.WriteString(w, a.Body)
}

// abort ends a request that is not answered, and its connection.
func (s *Server) abort(entry *Request) {
	s.tell(entry)
	panic(http.ErrAbortHandler)
}

// tell passes a request that is decided to those who watch.
func (s *Server) tell(entry *Request) {
	s.mu.Lock()
	r, watchers := *entry, slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, f := range watchers {
		f(r)
	}
}

// refuseBody answers a request whose body could not be read: too large, or
// ended by the client.
func (s *Server) refuseBody(w http.ResponseWriter, entry *Request, err error) {
	if _, large := errors.AsType[*http.MaxBytesError](err); !large {
		s.abort(entry)
	}
	s.reply(w, entry, htmlAnswer(http.StatusRequestEntityTooLarge))
}

// errorCode finds the code in an error answer: of the authorization server or
// of v2, of v3, or in XML.
func errorCode(body string) string {
	if strings.HasPrefix(body, "<") {
		var x struct {
			Error string `xml:"error"`
		}
		if xml.Unmarshal([]byte(body), &x) != nil {
			return ""
		}
		return x.Error
	}
	var j struct{ Error json.RawMessage }
	if json.Unmarshal([]byte(body), &j) != nil {
		return ""
	}
	var code string
	if json.Unmarshal(j.Error, &code) == nil {
		return code
	}
	var v3 struct{ Code string }
	json.Unmarshal(j.Error, &v3)
	return v3.Code
}
