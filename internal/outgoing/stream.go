package outgoing

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/b24go/b24oauth/internal/authparam"
)

// A stream is a body on its way through us: the caller's, which may have to be
// sent twice and must be closed once, or one from its GetBody. Without GetBody
// it can be sent again only if nobody has read it, as with Expect: 100-continue:
// so its closing is put off until it is known whether it will be.
type stream struct {
	src    io.ReadCloser
	kept   bool   // without GetBody
	prefix []byte // what we have read of src

	mu      sync.Mutex // guards what follows; not held while src is read
	sent    *sentBody  // what has the body at present
	read    bool       // something of the body has been read
	closed  bool
	pending bool          // a close was put off
	over    bool          // finish was called, nothing is put off any more
	reading int           // how many reads of src go on
	idle    chan struct{} // closed when none does any more; nil if nobody waits for that
}

// sniff reports whether a JSON object begins the body.
func (s *stream) sniff(ctx context.Context) (object bool, err error) {
	if r := inMemory(s.src); r != nil {
		_, object, err = authparam.SniffJSONObject(ahead(r))
		return object, err
	}
	type result struct {
		prefix []byte
		object bool
	}
	r, err := within(ctx, func() (r result, err error) {
		r.prefix, r.object, err = authparam.SniffJSONObject(s.src)
		return r, err
	})
	s.prefix = r.prefix
	return r.object, err
}

// next returns the body for the first attempt, or for one that again has
// allowed.
func (s *stream) next() *sentBody {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = false
	s.sent = &sentBody{stream: s}
	return s.sent
}

// again reports whether a body without GetBody can be sent once more. If so, the
// next attempt has it, and the one before is not to read it any more.
func (s *stream) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read || s.closed {
		return false
	}
	s.sent.taken, s.pending = true, true
	return true
}

// stopTime is how long a read of a body that was closed may take to return.
const stopTime = time.Second

// stop takes the body from the attempt that has it, for one from GetBody to be
// read. Both may come from the same reader, which GetBody rewinds: so does
// go-retryablehttp's, with a file. And the attempt may still be reading, since a
// portal can refuse a token before it has the body. So it reports whether no read
// goes on, which the body's Close ends, if it is one that can wait.
func (s *stream) stop(ctx context.Context) bool {
	s.mu.Lock()
	s.sent.taken = true
	s.mu.Unlock()
	s.close()
	s.mu.Lock()
	if s.reading == 0 {
		s.mu.Unlock()
		return true
	}
	idle := make(chan struct{})
	s.idle = idle
	s.mu.Unlock()
	limit := time.NewTimer(stopTime)
	defer limit.Stop()
	select {
	case <-idle:
		return true
	case <-limit.C:
	case <-ctx.Done():
	}
	return false
}

// begin notes a read of src.
func (b *sentBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken || b.closed {
		return false
	}
	b.read = true
	b.reading++
	return true
}

// end notes the end of a read, also of one that panics.
func (b *sentBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reading--; b.reading == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

// finish closes the body if no attempt will.
func (s *stream) finish() {
	s.mu.Lock()
	s.over = true
	shut := s.pending || s.sent == nil
	s.mu.Unlock()
	if shut {
		s.close()
	}
}

func (s *stream) close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	return s.src.Close()
}

// sentBody is a stream in one attempt. Closing it before anybody has read it is
// put off if another attempt may follow; once the body was given to one, it
// can neither be read nor closed by this one.
type sentBody struct {
	*stream
	at    int  // how much of the prefix was delivered
	taken bool // the body was given to another attempt; guarded by stream.mu
}

var errBodyTaken = errors.New("b24oauth: the request's body was closed, or is being sent again")

// Read implements io.Reader. The prefix comes together with what follows it,
// or it would be a packet of its own.
func (b *sentBody) Read(p []byte) (int, error) {
	if !b.begin() {
		return 0, errBodyTaken
	}
	defer b.end()
	n := copy(p, b.prefix[b.at:])
	b.at += n
	if n > 0 && n == len(p) {
		return n, nil
	}
	more, err := b.src.Read(p[n:])
	return n + more, err
}

func (b *sentBody) Close() error {
	b.mu.Lock()
	if b.taken {
		b.mu.Unlock()
		return nil
	}
	if b.kept && !b.read && !b.over {
		b.pending = true
		b.mu.Unlock()
		return nil
	}
	b.mu.Unlock()
	return b.close()
}

// putStream gives the request to send the body of r.stream, with the token in it if
// that is where it goes.
func (r *Request) putStream(out *http.Request, token string) {
	out.Body = r.stream.next()
	if r.kind == otherBody {
		return
	}
	insert, overhead := insertIntoForm, authparam.FormOverhead
	if r.kind == jsonBody {
		insert, overhead = insertIntoJSON, authparam.JSONOverhead
	}
	out.Body = insert(out.Body, token)
	grow(out, overhead(token))
	if get := r.req.GetBody; get != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			body, err := get()
			if err != nil {
				return nil, err
			}
			return insert(body, token), nil
		}
	}
}

func insertIntoForm(body io.ReadCloser, token string) io.ReadCloser {
	return readCloser{authparam.NewFormReader(body, token), body}
}

func insertIntoJSON(body io.ReadCloser, token string) io.ReadCloser {
	return readCloser{authparam.NewJSONReader(body, token), body}
}

// readCloser reads from one and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}
