// Package outgoing makes the request that is sent to a portal out of a
// caller's: with the token in the one place where the portal looks for it,
// and with a body that can be sent twice and is closed once.
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

// Placement is where the token goes.
type Placement int

const (
	Auto   Placement = iota // in a form or JSON body if there is one, else in the query
	Query                   // in the query
	Header                  // as Bearer authorization
)

// Token is an access token, and auth=… as a query or a form has it.
type Token struct{ Value, Field string }

// NewToken returns the token with this value, which is a part of the field
// then, if it is the same there: one copy of it is kept.
func NewToken(value string) Token {
	field := authparam.Field(value)
	if name, ok := strings.CutSuffix(field, value); ok {
		value = field[len(name):]
	}
	return Token{value, field}
}

// Request is a caller's request on its way to the portal, in one attempt or
// two. It is for one goroutine. Finish it when no attempt follows.
type Request struct {
	req       *http.Request // the caller's
	placement Placement
	prompt    bool
	kind      bodyKind
	stream    *stream       // the body that the present attempt has as a stream; nil if it has none
	taken     bool          // the caller's body is an attempt's to close
	another   io.ReadCloser // for the next attempt
	atFirst   unread        // of a body that went on as it came, and has GetBody
	used      bool          // there was an attempt
}

// Init readies r for the caller's request. prompt says that a body in memory is
// read at once by what sends the request, unless it waits for the portal to
// ask for it: as net/http does.
func (r *Request) Init(req *http.Request, placement Placement, prompt bool) {
	r.req, r.placement, r.prompt = req, placement, prompt
}

// Again reports whether the request can be sent once more. If it has GetBody, the
// attempt before reads its body no further.
func (r *Request) Again() bool {
	switch {
	case r.bodyless():
		return true
	case r.atFirst.noted:
		r.another = io.NopCloser(r.atFirst.reader())
		return true
	case r.req.GetBody != nil:
		if r.stream != nil && !r.stream.stop(r.req.Context()) {
			return false
		}
		body, err := r.req.GetBody()
		if err != nil || body == nil {
			return false
		}
		r.another = body
		return true
	case r.stream == nil: // it went as it came, and nobody knows
		return false
	}
	return r.stream.again()
}

// Finish says that no attempt follows.
func (r *Request) Finish() {
	if r.bodyless() {
		return
	}
	if r.stream != nil {
		r.stream.finish()
	}
	if !r.taken {
		r.req.Body.Close()
	}
	if r.another != nil {
		r.another.Close()
	}
}

func (r *Request) bodyless() bool { return r.req.Body == nil || r.req.Body == http.NoBody }

// WhyUnread says why a portal may have been unable to read the body, and with
// it the token: PHP takes what it cannot read for a request without fields.
// "" if the token was not in the body. What it says is true of some bodies, and
// to look which would take as long as PHP does.
func (r *Request) WhyUnread() string {
	switch r.kind {
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

// An attempt is a request on its way to a transport: the caller's with a token
// in it. Its parts are in one piece, which is no larger than it has to be: most
// of what a call costs is the memory that it takes. The URL is a copy, since
// transports are about that change one in place.
type attempt struct {
	req http.Request
	url url.URL
}

// attemptInMemory is one with a body in memory.
type attemptInMemory struct {
	attempt
	body memory
}

// Prepare returns the request to send: the caller's with the token in it and
// no other, addressed to the portal. Neither a Host of the caller's nor one in
// URL.Opaque goes along: either would have a web server or a proxy hand the
// token to another site.
// After the first one, Again must have allowed it.
func (r *Request) Prepare(token Token, to address.Portal) (*http.Request, error) {
	noted := note(r.req.Header)
	if !r.used && r.placement == Auto && !r.bodyless() {
		r.kind = kindByHeader(r.req, noted, to.Path)
	}
	var a *attempt
	var body *memory
	if r.isWhole() {
		whole := new(attemptInMemory)
		a, body = &whole.attempt, &whole.body
	} else {
		a = new(attempt)
	}
	out, u := &a.req, &a.url
	*out, *u = *r.req, *r.req.URL
	if ctx, needed := redact.Trace(r.req.Context()); needed {
		*out = *r.req.WithContext(ctx)
	}
	if err := r.putBody(out, body, token, noted); err != nil {
		return nil, redact.Error(err, token.Value)
	}
	r.used = true
	direct(u, to)
	out.URL, out.Host = u, u.Host
	bearer := ""
	switch {
	case r.placement == Header:
		bearer = token.Value
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	case r.kind != otherBody:
		u.RawQuery = authparam.StripQuery(u.RawQuery)
	default:
		u.RawQuery = authparam.Query(u.RawQuery, token.Field)
	}
	out.Header = header(out.Header, noted, bearer)
	return out, nil
}

// direct makes u a URL at the portal.
func direct(u *url.URL, to address.Portal) {
	if !to.Has(u) {
		u.Scheme, u.Host = to.Scheme, to.Host
	}
	if u.Opaque != "" {
		u.Opaque, u.RawQuery = address.SplitOpaque(u)
		if strings.HasPrefix(u.Opaque, "//") { // net/http would take what follows for a host
			u.Opaque = "//" + u.Host + u.Opaque
		}
	}
}
