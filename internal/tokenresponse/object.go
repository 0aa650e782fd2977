package tokenresponse

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// An answer that is thrown away for being untidy is a lost grant, since the
// refresh token is spent. So the first JSON object that can be an answer is
// looked for wherever it begins, behind a notice of PHP's too; nothing after
// its end is waited for; and of one that breaks off, what came whole is taken.

// object is a JSON object as far as it has come.
type object struct {
	found    bool // it is an object, whole or not
	complete bool
	alone    bool // nothing but white space stands before it
	size     int  // of a complete one
	body
}

// tells reports whether the object is an answer, success or failure.
func (o *object) tells() bool { return o.AccessToken != "" || o.Error != "" }

// field returns where the member of that name goes, nil if it is not of interest.
func (b *body) field(name string) *text {
	switch strings.ToLower(name) {
	case "access_token":
		return &b.AccessToken
	case "refresh_token":
		return &b.RefreshToken
	case "expires_in":
		return &b.ExpiresIn
	case "expires":
		return &b.Expires
	case "scope":
		return &b.Scope
	case "status":
		return &b.Status
	case "member_id":
		return &b.MemberID
	case "user_id":
		return &b.UserID
	case "client_endpoint":
		return &b.ClientEndpoint
	case "server_endpoint":
		return &b.ServerEndpoint
	case "error":
		return &b.Error
	case "error_description":
		return &b.Description
	}
	return nil
}

// parse reads the object at the beginning of data. It is not found if what is
// there cannot become one.
func parse(data []byte) (o object) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return object{}
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			o.found = brokeOff(err)
			return o
		}
		var value text
		if err := dec.Decode(&value); err != nil {
			o.found = brokeOff(err)
			return o
		}
		name, _ := key.(string)
		at := o.field(name)
		if at == nil {
			continue
		}
		// A number that ends where the data does may be the half of one.
		if n := dec.InputOffset(); n < int64(len(data)) || data[n-1] == '"' {
			*at = value
		}
	}
	_, err := dec.Token()
	o.complete, o.size = err == nil, int(dec.InputOffset())
	o.found = o.complete || brokeOff(err)
	return o
}

// brokeOff reports whether more data could mend the error.
func brokeOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// search is the looking for an object in data that comes bit by bit.
type search struct {
	data []byte
	from int // nothing that begins before can be an object
}

// next returns the first object in the data so far that tells anything, or has
// not ended; else the last one, or none.
func (s *search) next() (last object) {
	for {
		at := bytes.IndexByte(s.data[s.from:], '{')
		if at < 0 {
			s.from = len(s.data)
			return last
		}
		s.from += at
		o := parse(s.data[s.from:])
		o.alone = len(bytes.TrimSpace(s.data[:s.from])) == 0
		switch {
		case o.found && (o.tells() || !o.complete):
			return o
		case o.complete:
			last = o
			s.from += o.size
		default:
			s.from++
		}
	}
}

// readObject reads until an object has ended, or until nothing more comes: the
// error says why. data is what was read.
func readObject(r io.Reader) (o object, data []byte, err error) {
	var s search
	chunk := make([]byte, 4<<10)
	for {
		n, err := r.Read(chunk)
		s.data = append(s.data, chunk[:n]...)
		if next := s.next(); next.found {
			o = next
		}
		if o.complete && o.tells() || err != nil {
			return o, s.data, err
		}
	}
}
