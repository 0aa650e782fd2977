package outgoing

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/ctxend"
)

// body is that of the caller's request, which may have to be sent twice and
// must be closed once. Without GetBody it can be sent again only if nobody has
// read it, as with Expect: 100-continue: so its closing is put off until it is
// known whether it will be.
type body struct {
	req     *http.Request // the caller's; its Body may be nil
	kind    bodyKind
	sniffed bool
	prefix  []byte // what sniffing has read of the body

	mu      sync.Mutex    // guards what follows; not held while the body is read
	sent    *sentBody     // what has the body at present
	another io.ReadCloser // from GetBody, for the next attempt
	read    bool          // something of the body has been read
	closed  bool
	pending bool // a close was put off
	over    bool // finish was called, nothing is put off any more
}

// bodyKind is what the body is to PHP, as far as that matters.
type bodyKind int

const (
	otherBody bodyKind = iota
	formBody
	jsonBody
)

// none reports whether there is no body at all.
func (b *body) none() bool { return b.req.Body == nil || b.req.Body == http.NoBody }

// next returns the body for the first attempt, or for one that again has
// allowed. own is what it can be read through if it is the caller's own.
func (b *body) next(own *sentBody) io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	if another := b.another; another != nil {
		b.another = nil
		return another
	}
	b.pending = false
	b.sent = own
	own.body = b
	return own
}

// again reports whether the body can be sent once more. If so, the next
// attempt has it, and the one before is not to read it any more.
func (b *body) again() bool {
	if b.none() {
		return true
	}
	if b.req.GetBody != nil {
		another, err := b.req.GetBody()
		if err != nil {
			return false
		}
		b.another = another
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read || b.closed {
		return false
	}
	b.sent.taken, b.pending = true, true
	return true
}

// finish ends the putting off. It closes what was not sent.
func (b *body) finish() {
	if b.none() {
		return
	}
	b.mu.Lock()
	b.over = true
	shut := b.pending || b.sent == nil
	b.mu.Unlock()
	if shut {
		b.close()
	}
	if b.another != nil {
		b.another.Close()
	}
}

// close closes the caller's body, once.
func (b *body) close() error {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	b.mu.Unlock()
	if closed {
		return nil
	}
	return b.req.Body.Close()
}

// sniff finds out what the body is at a portal whose methods are below base.
// What it reads of it is put back.
func (b *body) sniff(base string, header noted) (bodyKind, error) {
	if b.sniffed || b.none() {
		return b.kind, nil
	}
	b.sniffed = true
	mediaType, _, _ := strings.Cut(header.contentType, ";")
	switch mediaType = strings.TrimSpace(mediaType); {
	case b.req.Method != http.MethodPost || header.encoded || address.IsV3(b.req.URL, base):
	case strings.EqualFold(mediaType, "application/x-www-form-urlencoded"):
		b.kind = formBody
	case mediaType == "application/json": // portals compare it as it stands
		object, err := b.sniffJSON()
		if err != nil {
			return otherBody, err
		}
		if object {
			b.kind = jsonBody
		}
	}
	return b.kind, nil
}

// sniffJSON reads the body's beginning, until the caller's context ends.
func (b *body) sniffJSON() (object bool, err error) {
	ctx := b.req.Context()
	if b.req.GetBody == nil { // it may be a pipe that nobody writes to
		stop := context.AfterFunc(ctx, func() { b.close() })
		defer stop()
	}
	b.prefix, object, err = authparam.SniffJSONObject(b.req.Body)
	if err != nil && ctx.Err() != nil {
		err = ctxend.Wrap("b24oauth: the request's body was not read to its end", ctxend.Of(ctx))
	}
	return object, err
}

// sentBody is the caller's body in the hands of a transport.
type sentBody struct {
	*body
	at    int  // how much of the prefix was delivered
	taken bool // the body was given to another attempt; guarded by body.mu
}

var errBodyTaken = errors.New("b24oauth: the request's body was closed, or is being sent again")

func (s *sentBody) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.taken || s.closed {
		s.mu.Unlock()
		return 0, errBodyTaken
	}
	s.body.read = true
	s.mu.Unlock()
	if s.at < len(s.prefix) {
		n := copy(p, s.prefix[s.at:])
		s.at += n
		return n, nil
	}
	return s.req.Body.Read(p)
}

func (s *sentBody) Close() error {
	s.mu.Lock()
	if s.taken {
		s.mu.Unlock()
		return nil
	}
	if !s.body.read && !s.over {
		s.pending = true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.close()
}
