package authparam

import (
	"bytes"
	"encoding/json"
	"io"
)

// JSONOverhead is by how many bytes [NewJSONReader] makes any body longer.
func JSONOverhead(token string) int64 {
	if isPlain(token) {
		return int64(len(`,"auth":""`) + len(token))
	}
	return int64(len(AppendMember(make([]byte, 0, 128), token)))
}

// NewJSONReader returns a reader of body, whose first byte that is not JSON
// white space is '{', with "auth":"token" as the last member of that object:
// of two members of one name the last wins. Nothing else changes, unless more
// than 63 bytes of white space follow the object: those may stand before its
// brace then, which means the same.
//
// A JSON object ends with the body's last byte that is not white space, so
// nothing is looked at but the ends of what is read. A body that is no JSON
// stays none, whatever stands in it, and becomes as much longer as any other. An
// error of body is passed on as it is, and is final.
func NewJSONReader(body io.Reader, token string) io.Reader {
	r := &jsonReader{body: body}
	r.member = AppendMember(r.room[:0], token)
	return r
}

// AppendMember appends to b the member that [NewJSONReader] puts into an
// object, as it follows another one.
func AppendMember(b []byte, token string) []byte {
	b = append(b, `,"auth":`...)
	if !isPlain(token) {
		quoted, _ := json.Marshal(token) // a string cannot fail
		return append(b, quoted...)
	}
	b = append(b, '"')
	b = append(b, token...)
	return append(b, '"')
}

// isPlain reports whether a JSON string has the token as it is.
func isPlain(token string) bool {
	for i := range len(token) {
		if c := token[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

type jsonReader struct {
	window
	body   io.Reader
	opened bool // the object's first brace was read
	filled bool // something but white space follows that
	tail   [tailRoom]byte
	held   int // how much of tail is in use: a closing brace, and the white space after it
	member []byte
	// room is for member, so that a usual token costs no allocation of its
	// own.
	room [128]byte
}

const (
	tailRoom = 64

	// jsonBuffer is the least buffer to work on, besides room for the member.
	jsonBuffer = 2 * tailRoom
)

func (r *jsonReader) Read(p []byte) (int, error) {
	return r.read(p, jsonBuffer+len(r.member), r.fill)
}

// fill reads on and keeps back what may be the end of the object, until more
// comes.
func (r *jsonReader) fill(buf []byte) (int, error) {
	for {
		held := copy(buf, r.tail[:r.held])
		n, err := r.body.Read(buf[held : len(buf)-len(r.member)])
		n += held
		brace := lastBrace(buf[:n])
		r.look(buf[:brace])
		switch {
		case err != nil && brace < n, err == io.EOF:
			return r.end(buf, brace, n), err
		case err != nil:
			return n, err
		}
		ready := brace
		if n-brace > tailRoom { // the white space goes before the brace
			ready = n - 1
			copy(buf[brace:], buf[brace+1:n])
			buf[ready] = '}'
		}
		r.held = copy(r.tail[:], buf[ready:n])
		if ready > 0 || n == held {
			return ready, nil
		}
	}
}

// end puts the member before the brace, or as much white space after a body
// that has none, and returns how long the whole is.
func (r *jsonReader) end(buf []byte, brace, n int) int {
	member := r.member
	switch {
	case brace == n:
		member = bytes.Repeat([]byte{' '}, len(member))
	case !r.filled:
		member[0] = ' '
	}
	copy(buf[brace+len(member):], buf[brace:n])
	copy(buf[brace:], member)
	return n + len(member)
}

// look notes whether there is anything in the object, of which more has come.
func (r *jsonReader) look(more []byte) {
	for _, c := range more {
		switch {
		case r.filled:
			return
		case isSpace(c):
		case !r.opened:
			r.opened = true
		default:
			r.filled = true
		}
	}
}

// lastBrace returns where the closing brace is with which data ends, but for
// white space; len(data) if it ends otherwise.
func lastBrace(data []byte) int {
	end := len(data)
	for end > 0 && isSpace(data[end-1]) {
		end--
	}
	if end > 0 && data[end-1] == '}' {
		return end - 1
	}
	return len(data)
}

// sniffLimit is how much white space may come before an object: more than any
// encoder writes.
const sniffLimit = 512

// SniffJSONObject reads from r as far as the first byte that is not JSON
// white space, or 512 bytes of white space, and reports whether that byte
// opens an object. A byte-order mark does not: PHP takes a body that starts
// with one for no JSON at all. prefix is what it has read, to be put before
// the rest of r. The end of r is no error; any other error of r is returned
// beside what was read before it.
func SniffJSONObject(r io.Reader) (prefix []byte, object bool, err error) {
	prefix = make([]byte, 0, 16)
	for idle := 0; len(prefix) < sniffLimit; {
		prefix = append(prefix, 0)
		n, err := r.Read(prefix[len(prefix)-1:])
		prefix = prefix[:len(prefix)-1+n]
		if err == io.EOF {
			err = nil
			if n == 0 {
				return prefix, false, nil
			}
		}
		if n > 0 {
			if c := prefix[len(prefix)-1]; !isSpace(c) {
				return prefix, c == '{', err
			}
			idle = 0
		} else if idle++; idle == maxIdleReads && err == nil {
			err = io.ErrNoProgress
		}
		if err != nil {
			return prefix, false, err
		}
	}
	return prefix, false, nil
}

// maxIdleReads is how often in a row a reader may return nothing, as in
// bufio.
const maxIdleReads = 100

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r'
}
