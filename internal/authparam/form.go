package authparam

import (
	"bytes"
	"io"
	"net/url"
)

// FormOverhead is by how many bytes [NewFormReader] makes any body longer.
func FormOverhead(token string) int64 {
	return int64(len("auth=&") + len(url.QueryEscape(token)))
}

// NewFormReader returns a reader of body, an
// application/x-www-form-urlencoded form, with auth=token put in front, where
// no max_input_vars cuts it off, and with every field of the caller's that
// PHP would read as auth overwritten, each byte of it from its name on, by an
// equals sign: PHP ignores a field without a name.
//
// An error of body is passed on as it is, and is final.
func NewFormReader(body io.Reader, token string) io.Reader {
	r := &formReader{body: body}
	b := append(r.first[:0], "auth="...)
	b = append(b, url.QueryEscape(token)...)
	r.out = append(b, '&')
	return r
}

type formReader struct {
	window
	body io.Reader
	at   formState
	held [16]byte // the start of a field whose name is undecided
	n    int      // how many bytes of held are in use
	// first is room for our own field, so that a usual token costs no
	// allocation of its own.
	first [128]byte
}

type formState int

const (
	fieldStart formState = iota // before a name, or within the spaces before it
	keptField
	blankedField
)

// formBuffer is the least buffer to work on: a few times what can be held.
const formBuffer = 64

func (r *formReader) Read(p []byte) (int, error) {
	return r.read(p, formBuffer, r.fill)
}

func (r *formReader) fill(buf []byte) (int, error) {
	for {
		held := copy(buf, r.held[:r.n])
		n, err := r.body.Read(buf[held:])
		n += held
		done := r.blank(buf[:n], err != nil)
		r.n = copy(r.held[:], buf[done:n])
		if done > 0 || n == held || err != nil {
			return done, err
		}
	}
}

// blank overwrites the caller's auth fields in buf, which is the next part of
// the body, or the rest of it if last. It returns how much of buf is ready;
// what follows is the start of a field whose name is undecided.
func (r *formReader) blank(buf []byte, last bool) int {
	for i := 0; i < len(buf); {
		if r.at == fieldStart {
			if i = r.name(buf, i, last); r.at == fieldStart {
				return i
			}
		}
		end := len(buf)
		if sep := bytes.IndexByte(buf[i:], '&'); sep >= 0 {
			end = i + sep
		}
		if r.at == blankedField {
			for k := i; k < end; k++ {
				buf[k] = '='
			}
		}
		if end < len(buf) {
			r.at = fieldStart
		}
		i = end + 1
	}
	return len(buf)
}

// name decides on the field that starts at i and returns where its name does.
// If it cannot decide yet, r.at stays what it was.
func (r *formReader) name(buf []byte, i int, last bool) int {
	switch buf[i] {
	case ' ', '+', '%', 'a':
	default: // the common case, made short
		r.at = keptField
		return i
	}
	for size := space(buf, i); size > 0; size = space(buf, i) {
		i += size
	}
	switch hasName(buf[i:], "auth", last) {
	case yes:
		r.at = blankedField
	case no:
		r.at = keptField
	}
	return i
}
