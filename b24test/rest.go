package b24test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// servePortal is the portal at one of its addresses: the present one answers,
// a former one redirects.
func (s *Server) servePortal(w http.ResponseWriter, r *http.Request, host string) {
	if _, pattern := s.pages.Handler(r); pattern != "" {
		s.pages.ServeHTTP(w, r)
		return
	}
	if s.servePage(w, r) {
		return
	}
	entry, body, err := s.arrive(r)
	if err != nil {
		s.refuseBody(w, entry, err)
		return
	}
	if present := s.URL(); present != "http://"+host {
		s.reply(w, entry, Answer{
			Status: http.StatusFound,
			Header: http.Header{"Location": {present + r.RequestURI}},
		})
		return
	}
	if r.URL.Path == tokenPath {
		s.serveToken(w, r, host, entry, body)
		return
	}
	c, ok := parseCall(r, body)
	if !ok {
		s.reply(w, entry, htmlAnswer(http.StatusNotFound))
		return
	}
	s.understood(entry, c.params, c.auth, c.authIn)
	if answer, instead := s.intercept(c); instead {
		s.reply(w, entry, answer)
		return
	}
	who, refusal, ok := s.authorize(c, false)
	if !ok {
		s.reply(w, entry, refusal)
		return
	}
	if answer, canned := s.canned(c.method); canned {
		s.reply(w, entry, answer)
		return
	}
	s.reply(w, entry, c.run(who))
}

// call is a REST call as the server understands it.
type call struct {
	dialect dialect
	webhook int64 // the user's number in a webhook's path; 0: an ordinary call
	method  string
	params  map[string]any
	list    []any // the body of a v3 batch
	auth    string
	authIn  string
	started time.Time
}

// parseCall reads a call's address, parameters and token. Slashes may be
// doubled. It is false if the address is none of a REST method.
func parseCall(r *http.Request, body []byte) (call, bool) {
	path := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	if len(path) < 2 || path[0] != "rest" {
		return call{}, false
	}
	path = path[1:]
	c := call{started: time.Now()}
	if path[0] == "api" {
		c.dialect = v3
		path = path[1:]
	}
	if len(path) == 3 {
		n, err := strconv.ParseInt(path[0], 10, 64)
		if err != nil || n <= 0 {
			return call{}, false
		}
		c.webhook = n
		path = path[2:]
	}
	if len(path) != 1 {
		return call{}, false
	}
	c.method = path[0]
	if c.dialect != v3 {
		c.method = strings.TrimSuffix(c.method, ".json")
		if method, ok := strings.CutSuffix(c.method, ".xml"); ok {
			c.method, c.dialect = method, v2XML
		}
	}
	c.read(r, body)
	return c, true
}

// read finds the parameters and the token. In v2 they come from the query and
// the body alike, in v3 the parameters are the JSON body alone.
func (c *call) read(r *http.Request, body []byte) {
	query, form, posted := readParams(r, body)
	object, _ := posted.(map[string]any)
	if c.dialect == v3 {
		c.params = object
		c.list, _ = posted.([]any)
		c.findToken(r, query, object, "auth")
		return
	}
	if len(form) > 0 {
		object = form
	}
	c.params = merge(query, object)
	c.findToken(r, query, object, "auth", "access_token")
}

var bearer = regexp.MustCompile(`(?i)^Bearer\s+`)

// findToken looks in the header, then for each name in the body and the query.
// The first one that is there and is no array ends the search, even if empty.
func (c *call) findToken(r *http.Request, query, posted map[string]any, names ...string) {
	header := r.Header.Get("Authorization")
	if prefix := bearer.FindString(header); prefix != "" {
		c.auth, c.authIn = header[len(prefix):], "header"
		return
	}
	for _, name := range names {
		value, ok := posted[name]
		in := "body"
		if !ok {
			value, ok = query[name]
			in = "query"
		}
		switch value.(type) {
		case []any, map[string]any:
			continue
		case nil:
			value = ""
		}
		if !ok {
			continue
		}
		if c.auth = fmt.Sprint(value); c.auth != "" {
			c.authIn = in
		}
		return
	}
}

// intercept is the answer that the test wants, if it wants one.
func (s *Server) intercept(c call) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if take(&s.faults.rateLimit) || s.faults.bucket.full() {
		return c.dialect.failure(http.StatusServiceUnavailable, "QUERY_LIMIT_EXCEEDED", "Too many requests"), true
	}
	if take(&s.faults.refuse) {
		return s.faults.refusal, true
	}
	return Answer{}, false
}

// authorize finds whom a call acts for, or the answer that refuses it. Only the
// authorization server knows the tokens of any portal.
func (s *Server) authorize(c call, anyPortal bool) (who owner, refusal Answer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := s.grants.access[c.auth]
	switch {
	case c.webhook != 0 && c.auth == "":
		return owner{user: c.webhook}, Answer{}, true
	case c.webhook != 0:
		refusal = c.dialect.denied("INVALID_CREDENTIALS", "Invalid request credentials")
	case c.auth == "":
		refusal = c.dialect.denied("NO_AUTH_FOUND", "Wrong authorization data")
	case token == nil, s.grants.removed, token.memberID != "" && !anyPortal:
		refusal = c.dialect.denied("invalid_token", "Unable to get application by token")
	case token.expired():
		refusal = c.dialect.denied("expired_token", "The access token provided has expired.")
	default:
		return token.owner, Answer{}, true
	}
	s.refused++
	return owner{}, refusal, false
}
