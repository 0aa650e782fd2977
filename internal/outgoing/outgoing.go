// Package outgoing makes of the caller's request the one that is sent: with
// the access token in it, and with a body that may be sent twice.
package outgoing

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/redact"
)

// Placement says in which part of a request the token travels.
type Placement int

const (
	Auto   Placement = iota // in a form or JSON body if there is one, else in the query
	Query                   // in the query
	Header                  // as Bearer authorization
)

// Request is a request of the caller's, which is not touched, on its way to
// a portal. Init readies one, and Finish ends its use. Prepare and Again are for
// one goroutine, while transports read the bodies on theirs.
type Request struct {
	placement Placement
	body      body    // and the caller's request
	first     attempt // room for the usual request's only one
}

// Init readies r for the caller's request. It is called once, before all else.
func (r *Request) Init(req *http.Request, placement Placement) {
	r.placement, r.body.req = placement, req
}

// Again reports whether the body can be sent once more. If so, the next
// attempt has it, and the one before is not to read it any more.
func (r *Request) Again() bool { return r.body.again() }

// Finish closes what was not sent of the body, once nothing is to be sent any
// more.
func (r *Request) Finish() { r.body.finish() }

// WhyUnread returns why PHP may have read nothing of a body that has the token
// in it; "" if the token stands elsewhere. The caller would look for the fault
// in the token, of which the portal says that there is none.
func (r *Request) WhyUnread() string {
	switch r.body.kind {
	case jsonBody:
		return "it is no JSON to PHP: a byte that is no UTF-8, a comma or a bracket too many, half of a surrogate pair, or more than 512 levels"
	case formBody:
		return "it is larger than the post_max_size of the portal's PHP, which drops such a form whole"
	}
	return ""
}

// CloseBody closes the body of a request that is not sent at all.
func CloseBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// attempt is a request on its way to a transport: the caller's with a token in
// it. Its parts are in one piece, as the usual call is to allocate little.
type attempt struct {
	req   http.Request
	url   url.URL
	token string
	own   sentBody   // the caller's body, if this attempt has it
	body  readCloser // what puts the token into it
	kind  bodyKind
	get   func() (io.ReadCloser, error) // the caller's GetBody
}

// Prepare returns the request to send: the caller's with the token in it and
// no other, addressed to the portal. Neither a Host of the caller's nor one in
// URL.Opaque goes along: either would have a web server or a proxy hand the
// token to another site.
// After the first one, Again must have allowed it.
func (r *Request) Prepare(token string, to address.Portal) (*http.Request, error) {
	a := &r.first
	if a.token != "" { // the transport may still be at it
		a = new(attempt)
	}
	caller := r.body.req
	a.req, a.url, a.token = *caller, *caller.URL, token
	if ctx, needed := redact.Trace(caller.Context()); needed {
		a.req = *caller.WithContext(ctx)
	}
	out, u := &a.req, &a.url
	out.URL = u
	if !to.Has(u) {
		u.Scheme, u.Host = to.Scheme, to.Host
	}
	out.Host = u.Host
	if u.Opaque != "" {
		u.Opaque, u.RawQuery = address.SplitOpaque(u)
		if strings.HasPrefix(u.Opaque, "//") { // net/http would take what follows for a host
			u.Opaque = "//" + u.Host + u.Opaque
		}
	}
	noted := note(caller.Header)
	kind := otherBody
	if r.placement == Auto {
		var err error
		if kind, err = r.body.sniff(to.Path, noted); err != nil {
			return nil, redact.Error(err, token)
		}
	}
	if !r.body.none() {
		out.Body = r.body.next(&a.own)
	}
	bearer := ""
	switch {
	case r.placement == Header:
		bearer = token
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	case kind != otherBody:
		a.insertIntoBody(kind)
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	default:
		u.RawQuery = authparam.Query(u.RawQuery, token)
	}
	out.Header = header(out.Header, noted, bearer)
	return out, nil
}

// insertIntoBody puts the token into the body, in GetBody too, and corrects
// the length if that is known.
func (a *attempt) insertIntoBody(kind bodyKind) {
	a.kind = kind
	a.body = a.insertToken(a.req.Body)
	a.req.Body = &a.body
	overhead := authparam.FormOverhead
	if kind == jsonBody {
		overhead = authparam.JSONOverhead
	}
	if a.req.ContentLength > 0 { // else not known, as there is a body
		a.req.ContentLength += overhead(a.token)
	}
	if a.get = a.req.GetBody; a.get != nil {
		a.req.GetBody = a.getBody
	}
}

func (a *attempt) getBody() (io.ReadCloser, error) {
	body, err := a.get()
	if err != nil {
		return nil, err
	}
	return a.insertToken(body), nil
}

func (a *attempt) insertToken(body io.ReadCloser) readCloser {
	if a.kind == jsonBody {
		return readCloser{authparam.NewJSONReader(body, a.token), body}
	}
	return readCloser{authparam.NewFormReader(body, a.token), body}
}

// readCloser is a body that is read through something and closed as it is.
type readCloser struct {
	io.Reader
	io.Closer
}
