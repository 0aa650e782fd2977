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
	type result struct {
		data  []byte
		ended bool
	}
	r, err := within(ctx, func() (r result, err error) {
		r.data, r.ended, err = readUpTo(body, data, most)
		return r, err
	})
	return r.data, r.ended, err
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

// within returns what read does. If that is kept waiting, by who writes the
// body, and ctx ends, it returns the end of ctx, and the body is to be closed,
// which ends read too; what read returns by then goes nowhere.
func within[T any](ctx context.Context, read func() (T, error)) (T, error) {
	if ctx.Done() == nil {
		return read()
	}
	type outcome struct {
		value    T
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errNotRead}
		defer func() {
			o.panicked = recover()
			done <- o
		}()
		o.value, o.err = read()
	}()
	select {
	case o := <-done:
		if o.panicked != nil {
			panic(o.panicked) // the caller's own, in its goroutine
		}
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, ctxend.Wrap("b24oauth: the request's body was not read to its end", ctxend.Of(ctx))
	}
}
