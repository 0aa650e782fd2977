package b24oauth

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/redact"
)

// sending is a request on its way to Base: the caller's, which is not
// touched, with a token in it. Its parts are in one piece, as the usual call
// is to allocate little.
type sending struct {
	req   http.Request
	url   url.URL
	token string
	own   sentBody   // the caller's body, if this sending has it
	body  readCloser // what puts the token into it
	kind  bodyKind
	get   func() (io.ReadCloser, error) // the caller's GetBody
}

// prepare returns the request to send: the caller's with the token in it and
// no other, addressed to the portal of sn if that is given.
func (c *call) prepare(token string, sn *snapshot) (*http.Request, error) {
	s := &c.first
	if s.token != "" { // Base may still be at it
		s = new(sending)
	}
	s.req, s.url, s.token = *c.req, *c.req.URL, token
	if ctx, needed := redact.Trace(c.req.Context()); needed {
		s.req = *c.req.WithContext(ctx)
	}
	out, u := &s.req, &s.url
	out.URL = u
	if sn != nil && (u.Scheme != sn.scheme || address.CanonicalHost(u) != sn.host) {
		u.Scheme, u.Host = sn.scheme, sn.host
		out.Host = ""
	}
	kind := otherBody
	if c.t.Placement == PlaceAuto {
		var err error
		if kind, err = c.body.sniff(); err != nil {
			return nil, err
		}
	}
	if !c.body.none() {
		out.Body = c.body.next(&s.own)
	}
	bearer := ""
	switch {
	case c.t.Placement == PlaceHeader:
		bearer = token
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	case kind != otherBody:
		s.placeInBody(kind)
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	default:
		u.RawQuery = authparam.Query(u.RawQuery, token)
	}
	out.Header = withBearer(out.Header, bearer)
	return out, nil
}

// placeInBody puts the token into the body, in GetBody too, and corrects the
// length if that is known.
func (s *sending) placeInBody(kind bodyKind) {
	s.kind = kind
	s.body = s.place(s.req.Body)
	s.req.Body = &s.body
	overhead := authparam.FormOverhead
	if kind == jsonBody {
		overhead = authparam.JSONOverhead
	}
	if s.req.ContentLength > 0 { // else not known, as there is a body
		s.req.ContentLength += overhead(s.token)
	}
	if s.get = s.req.GetBody; s.get != nil {
		s.req.GetBody = s.getBody
	}
}

func (s *sending) getBody() (io.ReadCloser, error) {
	body, err := s.get()
	if err != nil {
		return nil, err
	}
	return s.place(body), nil
}

func (s *sending) place(body io.ReadCloser) readCloser {
	if s.kind == jsonBody {
		return readCloser{authparam.NewJSONReader(body, s.token), body}
	}
	return readCloser{authparam.NewFormReader(body, s.token), body}
}

// readCloser is a body that is read through something and closed as it is.
type readCloser struct {
	io.Reader
	io.Closer
}

// withBearer returns the header with the token as its Bearer authorization,
// or with none if token is empty: a portal looks at one before it looks at
// the auth parameter. The caller's map is not changed.
func withBearer(h http.Header, token string) http.Header {
	if token == "" && !slices.ContainsFunc(h["Authorization"], isBearer) {
		return h
	}
	h = h.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Del("Authorization")
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	return h
}

func isBearer(authorization string) bool {
	const scheme = "Bearer"
	n := len(scheme)
	return len(authorization) >= n && strings.EqualFold(authorization[:n], scheme) &&
		(len(authorization) == n || authorization[n] == ' ' || authorization[n] == '\t')
}
