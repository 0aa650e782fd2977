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
// than 63 bytes of white space follow a closing brace: the further ones may come
// as line feeds then if they are not all the same, which no string of JSON can
// have in it, and which mean the same outside of one.
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
	held   int   // how much of tail is in use: a closing brace, and the white space after it
	blanks run   // the white space that follows what tail has room for
	given  int64 // how much of body goes on as it comes
	over   error // what ends it after that, if the member is in it
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
		if r.blanks.n > 0 {
			r.passBlanks()
		}
		if r.given > 0 {
			n, err := r.body.Read(buf[:min(r.given, int64(len(buf)))])
			r.given -= int64(n)
			r.look(buf[:n])
			return n, err
		}
		if r.over != nil {
			return 0, r.over
		}
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
		r.held = copy(r.tail[:], buf[brace:n])
		r.blanks.add(buf[brace+r.held : n])
		if brace > 0 || n == held {
			return brace, nil
		}
	}
}

// passBlanks reads on to the end of more white space than is kept, which may be
// within a string, where it must stay, or after the object, where the member
// comes before it. What was read comes from body once more.
func (r *jsonReader) passBlanks() {
	next := make([]byte, 512)
	var err error
	rest, idle := next[:0], 0
	for len(rest) == 0 && err == nil {
		var n int
		n, err = r.body.Read(next)
		rest = bytes.TrimLeft(next[:n], blank)
		r.blanks.add(next[:n-len(rest)])
		if idle++; n > 0 {
			idle = 0
		} else if idle == maxIdleReads && err == nil {
			err = io.ErrNoProgress
		}
	}
	if err != nil {
		r.body = failed{err}
	}
	first := bytes.Clone(r.tail[:r.held])
	if len(rest) == 0 {
		first, r.over = append(r.memberAtEnd(), first...), err
	}
	r.body = io.MultiReader(bytes.NewReader(first), io.LimitReader(r.blanks, r.blanks.n), bytes.NewReader(rest), r.body)
	r.given = int64(len(first)) + r.blanks.n
	r.held, r.blanks = 0, run{}
}

// end puts the member before the brace, or as much white space after a body
// that has none, and returns how long the whole is.
func (r *jsonReader) end(buf []byte, brace, n int) int {
	member := r.memberAtEnd()
	if brace == n {
		member = bytes.Repeat([]byte{' '}, len(member))
	}
	copy(buf[brace+len(member):], buf[brace:n])
	copy(buf[brace:], member)
	return n + len(member)
}

// memberAtEnd returns the member as it stands after all that was looked at.
func (r *jsonReader) memberAtEnd() []byte {
	if !r.filled {
		r.member[0] = ' '
	}
	return r.member
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

// A run is n bytes of white space, and a reader of that without an end. It is of
// line feeds if they are not all the same.
type run struct {
	n int64
	c byte
}

func (r *run) add(blanks []byte) {
	if len(blanks) == 0 {
		return
	}
	if r.n == 0 {
		r.c = blanks[0]
	}
	if bytes.Count(blanks, []byte{r.c}) < len(blanks) {
		r.c = '\n'
	}
	r.n += int64(len(blanks))
}

func (r run) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.c
	}
	return len(p), nil
}

// failed is a reader that returns nothing but its error.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

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

// blank is JSON's white space.
const blank = " \n\t\r"

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r'
}
