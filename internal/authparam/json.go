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
// of two members of one name the last wins. Nothing else changes.
//
// A body whose object is not closed is no JSON and stays none; it is made as
// much longer as any other by spaces at its end. An error of body is passed
// on as it is, and is final.
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
	at     jsonState
	depth  int  // how many objects and arrays are open
	escape bool // the next byte of the string is escaped
	member []byte
	// room is for member, so that a usual token costs no allocation of its
	// own.
	room [128]byte
}

type jsonState int

const (
	beforeObject jsonState = iota
	emptyObject            // after the first brace and white space at most
	outsideString
	insideString
	afterObject // the member is written
)

// jsonBuffer is the least buffer to work on, besides room for the member.
const jsonBuffer = 64

func (r *jsonReader) Read(p []byte) (int, error) {
	if r.at == afterObject {
		return r.read(p, 0, r.body.Read)
	}
	return r.read(p, jsonBuffer+len(r.member), r.fill)
}

func (r *jsonReader) fill(buf []byte) (int, error) {
	n, err := r.body.Read(buf[:len(buf)-len(r.member)])
	end := r.scan(buf[:n])
	if end < n {
		if r.at == emptyObject {
			r.member[0] = ' '
		}
	} else if err == io.EOF {
		r.member = bytes.Repeat([]byte{' '}, len(r.member))
	} else {
		return n, err
	}
	copy(buf[end+len(r.member):], buf[end:n])
	copy(buf[end:], r.member)
	r.at = afterObject
	return n + len(r.member), err
}

// scan goes through the next part of the body and returns where in it the
// first object ends, or len(buf).
func (r *jsonReader) scan(buf []byte) int {
	for i := 0; i < len(buf); {
		switch r.at {
		case beforeObject:
			brace := bytes.IndexByte(buf[i:], '{')
			if brace < 0 {
				return len(buf)
			}
			i += brace + 1
			r.depth, r.at = 1, emptyObject
		case emptyObject:
			if isSpace(buf[i]) {
				i++
			} else if buf[i] == '}' {
				return i
			} else {
				r.at = outsideString
			}
		case outsideString:
			i = r.skipStructure(buf, i)
			if r.depth == 0 {
				return i
			}
		case insideString:
			i = r.skipString(buf, i)
		}
	}
	return len(buf)
}

// skipStructure returns the index after the next quotation mark, or that of
// the bracket that closes the object, or len(buf). It does not tell braces
// from square brackets: in JSON they match.
func (r *jsonReader) skipStructure(buf []byte, i int) int {
	for ; i < len(buf); i++ {
		switch buf[i] {
		case '"':
			r.at = insideString
			return i + 1
		case '{', '[':
			r.depth++
		case '}', ']':
			if r.depth--; r.depth == 0 {
				return i
			}
		}
	}
	return i
}

// skipString returns the index after the end of the string, or len(buf).
func (r *jsonReader) skipString(buf []byte, i int) int {
	if r.escape {
		r.escape = false
		i++
	}
	for {
		quote := bytes.IndexByte(buf[i:], '"')
		end := i + quote
		if quote < 0 {
			end = len(buf)
		}
		odd := false // number of backslashes before end
		for k := end; k > i && buf[k-1] == '\\'; k-- {
			odd = !odd
		}
		if quote < 0 {
			r.escape = odd
			return end
		}
		i = end + 1
		if !odd {
			r.at = outsideString
			return i
		}
	}
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
