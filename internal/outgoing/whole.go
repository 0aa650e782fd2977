package outgoing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/ctxend"
)

// mostWhole is the size of the largest body that is made anew in memory.
const mostWhole = 64 << 10

// memory is a body in memory, with the token in it.
type memory struct {
	data   []byte
	reader bytes.Reader // of data
}

// putWhole gives the request to send its body in memory, with the token in it unless it
// turns out to be no JSON object. One that is larger than it said, or than
// mostWhole, becomes a stream.
func (r *Request) putWhole(out *http.Request, m *memory, body io.ReadCloser, token Token) error {
	most := int64(mostWhole)
	if r.req.ContentLength > 0 { // else not known, as there is a body
		most = r.req.ContentLength
	}
	var room [128]byte
	member, overhead := room[:0], len(token.Field)+len("&")
	if r.kind == jsonBody {
		member = authparam.AppendMember(member, token.Value)
		overhead = len(member)
	}
	data := make([]byte, 0, overhead+int(min(most, max(r.req.ContentLength, 512)))+1) // one more, to see that it ends
	if r.kind == formBody {
		data = append(append(data, token.Field...), '&')
	}
	lead := len(data)
	var ended bool
	var err error
	if from := inMemory(body); from != nil {
		data, ended, err = readUpTo(from, data, int(most))
	} else {
		r.stream = &stream{src: body}
		data, ended, err = readWithin(r.req.Context(), body, data, int(most))
	}
	if err != nil {
		return err
	}
	if !ended {
		r.stream = &stream{src: body, prefix: data[lead:]}
		if r.kind == jsonBody && !authparam.IsJSONObject(data) {
			r.kind = otherBody
		}
		r.putStream(out, token.Value)
		return nil
	}
	r.stream = nil
	if err := body.Close(); err != nil {
		return err
	}
	switch {
	case r.kind == formBody:
		authparam.BlankForm(data[lead:])
	case authparam.IsJSONObject(data):
		data = authparam.InsertJSON(data, member)
	default:
		r.kind = otherBody
	}
	m.data = data
	m.reader.Reset(data)
	out.Body = io.NopCloser(&m.reader)
	if r.kind != otherBody {
		grow(out, int64(overhead))
		out.GetBody = m.again
	}
	return nil
}

// again is GetBody of a request with this body.
func (m *memory) again() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.data)), nil
}

// grow says that the body of a request has become longer.
func grow(out *http.Request, by int64) {
	if out.ContentLength > 0 { // else not known, as there is a body
		out.ContentLength += by
	}
}

// readWithin is readUpTo for a body that may keep it waiting: it ends with ctx.
func readWithin(ctx context.Context, body io.ReadCloser, data []byte, most int) (_ []byte, ended bool, err error) {
	err = within(ctx, func() (err error) {
		data, ended, err = readUpTo(body, data, most)
		return err
	})
	return data, ended, err
}

// readUpTo appends to data what body has, most bytes of it, and reports whether
// that was all.
func readUpTo(body io.Reader, data []byte, most int) (_ []byte, ended bool, err error) {
	const maxIdle = 100 // as in bufio
	end := len(data) + most + 1
	for idle := 0; len(data) < end; {
		if len(data) == cap(data) {
			data = slices.Grow(data, 1)
		}
		n, err := body.Read(data[len(data):min(cap(data), end)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, true, nil
		case err != nil:
			return data, false, err
		case n > 0:
			idle = 0
		case idle == maxIdle:
			return data, false, io.ErrNoProgress
		}
		idle++
	}
	return data, false, nil
}

var errNotRead = errors.New("b24oauth: the request's body has ended the goroutine that read it")

// within calls read and returns its error. If that is kept waiting, by who
// writes the body, and ctx ends, it returns the end of ctx, and the body is to
// be closed, which ends read too.
func within(ctx context.Context, read func() error) error {
	if ctx.Done() == nil {
		return read()
	}
	err, panicked := errNotRead, any(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = read()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return ctxend.Wrap("b24oauth: the request's body was not read to its end", ctxend.Of(ctx))
	}
	if panicked != nil {
		panic(panicked) // the caller's own, in its goroutine
	}
	return err
}
