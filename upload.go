package b24oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
)

// upload is the body of the caller's request, which may have to be sent
// twice and must be closed once. Without GetBody it can be sent again only if
// nobody has read it, as with Expect: 100-continue: so its closing is put off
// until it is known whether it will be.
type upload struct {
	req     *http.Request // the caller's; its Body may be nil
	kind    bodyKind
	sniffed bool
	prefix  []byte // what sniffing has read of the body

	mu      sync.Mutex    // guards what follows; not held while the body is read
	sent    *sentBody     // what has the body at present
	another io.ReadCloser // from GetBody, for the next sending
	read    bool          // something of the body has been read
	closed  bool
	pending bool // a close was put off
	over    bool // RoundTrip has returned, nothing is put off any more
}

// bodyKind is what the body is to PHP, as far as that matters.
type bodyKind int

const (
	otherBody bodyKind = iota
	formBody
	jsonBody
)

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// none reports whether there is no body at all.
func (u *upload) none() bool { return u.req.Body == nil || u.req.Body == http.NoBody }

// next returns the body for the first sending, or for one that again has
// allowed. own is what it can be read through if it is the caller's own.
func (u *upload) next(own *sentBody) io.ReadCloser {
	u.mu.Lock()
	defer u.mu.Unlock()
	if body := u.another; body != nil {
		u.another = nil
		return body
	}
	u.pending = false
	u.sent = own
	own.upload = u
	return own
}

// again reports whether the body can be sent once more. If so, the next
// sending has it, and the one before is not to read it any more.
func (u *upload) again() bool {
	if u.none() {
		return true
	}
	if u.req.GetBody != nil {
		body, err := u.req.GetBody()
		if err != nil {
			return false
		}
		u.another = body
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.read || u.closed {
		return false
	}
	u.sent.taken, u.pending = true, true
	return true
}

// finish ends the putting off. It closes what was not sent.
func (u *upload) finish() {
	if u.none() {
		return
	}
	u.mu.Lock()
	u.over = true
	shut := u.pending || u.sent == nil
	u.mu.Unlock()
	if shut {
		u.close()
	}
	if u.another != nil {
		u.another.Close()
	}
}

// close closes the caller's body, once.
func (u *upload) close() error {
	u.mu.Lock()
	closed := u.closed
	u.closed = true
	u.mu.Unlock()
	if closed {
		return nil
	}
	return u.req.Body.Close()
}

// sniff finds out what the body is. What it reads of it is put back.
func (u *upload) sniff() (bodyKind, error) {
	if u.sniffed || u.none() {
		return u.kind, nil
	}
	u.sniffed = true
	mediaType, _, _ := strings.Cut(u.req.Header.Get("Content-Type"), ";")
	switch mediaType = strings.TrimSpace(mediaType); {
	case u.req.Method != http.MethodPost || u.req.Header.Get("Content-Encoding") != "" || address.IsV3(u.req.URL):
	case strings.EqualFold(mediaType, "application/x-www-form-urlencoded"):
		u.kind = formBody
	case mediaType == "application/json": // portals compare it as it stands
		object, err := u.sniffJSON()
		if err != nil {
			return otherBody, err
		}
		if object {
			u.kind = jsonBody
		}
	}
	return u.kind, nil
}

// sniffJSON reads the body's beginning, until the caller's context ends.
func (u *upload) sniffJSON() (object bool, err error) {
	ctx := u.req.Context()
	if u.req.GetBody == nil { // it may be a pipe that nobody writes to
		stop := context.AfterFunc(ctx, func() { u.close() })
		defer stop()
	}
	u.prefix, object, err = authparam.SniffJSONObject(u.req.Body)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return object, err
}

// sentBody is an upload in the hands of Base.
type sentBody struct {
	*upload
	at    int  // how much of the prefix was delivered
	taken bool // the body was given to another sending; guarded by upload.mu
}

var errBodyTaken = errors.New("b24oauth: the request's body was closed, or is being sent again")

func (s *sentBody) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.taken || s.closed {
		s.mu.Unlock()
		return 0, errBodyTaken
	}
	s.upload.read = true
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
	if !s.upload.read && !s.over {
		s.pending = true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.close()
}
