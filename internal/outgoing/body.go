package outgoing

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/b24go/b24oauth/internal/address"
)

// A call with a small body would cost three packets instead of one: net/http
// sends header and body together only if it knows the body's type, and by that
// that its Read does not wait (golang.org/issue/22088). So a body goes on as it
// came where nothing can become wrong with it, a small one with a token in it is
// made anew in memory, and the others are streams of ours.

// bodyKind is what a body is to PHP, as far as that matters.
type bodyKind int

const (
	otherBody bodyKind = iota
	formBody
	jsonBody // with an object
)

// putBody gives the request to send its body, with the token in it unless
// r.kind is otherBody afterwards.
func (r *Request) putBody(out *http.Request, m *memory, token Token, n noted) error {
	switch {
	case r.bodyless():
		return nil
	case r.stream != nil && r.stream.kept: // nobody has read it
		r.putStream(out, token.Value)
		return nil
	case m != nil:
		return r.putWhole(out, m, r.take(), token)
	}
	src := r.take()
	if r.goesAsItCame(src, n) {
		r.letGo(out, src)
		return nil
	}
	r.stream = &stream{src: src, kept: r.req.GetBody == nil}
	if r.kind == jsonBody && !r.used {
		object, err := r.stream.sniff(r.req.Context())
		if err != nil {
			return err
		}
		if !object {
			r.kind = otherBody
		}
		if r.goesAsItCame(src, n) && len(r.stream.prefix) == 0 {
			r.stream = nil
			r.letGo(out, src)
			return nil
		}
	}
	r.putStream(out, token.Value)
	return nil
}

// isWhole reports whether the body is made anew in memory.
func (r *Request) isWhole() bool {
	return r.kind != otherBody && r.req.GetBody != nil && r.req.ContentLength <= mostWhole
}

// kindByHeader returns what the body is by its type.
func kindByHeader(req *http.Request, n noted, base string) bodyKind {
	if req.Method != http.MethodPost || n.contentType == "" || n.encoded {
		return otherBody
	}
	kind := otherBody
	mediaType, _, _ := strings.Cut(n.contentType, ";")
	switch mediaType = strings.TrimSpace(mediaType); {
	case mediaType == "application/json": // portals compare it as it stands
		kind = jsonBody
	case strings.EqualFold(mediaType, "application/x-www-form-urlencoded"):
		kind = formBody
	}
	if kind != otherBody && address.IsV3(req.URL, base) {
		return otherBody
	}
	return kind
}

// take returns the body that the next attempt is to send: the caller's, or
// another one from GetBody.
func (r *Request) take() io.ReadCloser {
	if another := r.another; another != nil {
		r.another = nil
		return another
	}
	r.taken = true
	return r.req.Body
}

// goesAsItCame reports whether nothing can become wrong with a body that is
// given away as it is: its Close does nothing, so that nobody can close it too
// early or twice, and nobody need know whether it was read.
func (r *Request) goesAsItCame(body io.ReadCloser, n noted) bool {
	switch {
	case r.kind != otherBody:
		return false
	case r.req.GetBody != nil:
		return inMemory(body) != nil
	}
	return r.prompt && !n.expects && inMemory(body) != nil
}

var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

func isNopCloser(body io.ReadCloser) bool {
	t := reflect.TypeOf(body)
	return t == nopCloser || t == nopCloserWriterTo
}

// inMemory returns the reader that is in a body, if it is one of those of which
// net/http knows that they do not wait; else nil.
func inMemory(body io.ReadCloser) io.Reader {
	if !isNopCloser(body) {
		return nil
	}
	switch r := reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return r.(io.Reader)
	}
	return nil
}

// letGo gives the request to send a body as it came. Nobody knows from then on
// whether it is still being read, and a GetBody may rewind the very reader, as
// go-retryablehttp's does with a strings.Reader: so the next attempt has what
// there was of it at first.
func (r *Request) letGo(out *http.Request, src io.ReadCloser) {
	out.Body = src
	if r.req.GetBody != nil {
		r.atFirst.note(inMemory(src))
	}
}

// unread is what is left in a reader that inMemory has returned. It is a value,
// as nearly no request needs it again.
type unread struct {
	noted bool
	bytes bytes.Reader
	text  strings.Reader // if there are no bytes
}

func (u *unread) note(r io.Reader) {
	u.noted = true
	switch r := r.(type) {
	case *bytes.Reader:
		u.bytes = *r
	case *bytes.Buffer:
		u.bytes.Reset(r.Bytes())
	case *strings.Reader:
		u.text = *r
	}
}

// reader returns another reader of the same.
func (u unread) reader() io.Reader {
	if u.bytes.Len() > 0 {
		return &u.bytes
	}
	return &u.text
}

// ahead returns another reader of what is left in one that inMemory has
// returned.
func ahead(r io.Reader) io.Reader {
	var u unread
	u.note(r)
	return u.reader()
}
