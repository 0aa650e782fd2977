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

// both reports whether both new tokens are in the object.
func (o *object) both() bool { return o.AccessToken != "" && o.RefreshToken != "" }

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
			o.found = brokeOff(err) || o.both()
			return o
		}
		var value text
		if err := dec.Decode(&value); err != nil {
			o.found = brokeOff(err) || o.both()
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
	o.found = o.complete || brokeOff(err) || o.both()
	return o
}

// brokeOff reports whether more data could mend the error.
func brokeOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

const (
	// maxStarts is how many beginnings of an object are tried, so that a body
	// full of them does not take minutes.
	maxStarts = 64

	// small is what is searched each time that more of it has come. Beyond, the
	// end is waited for: no answer is nearly as long.
	small = 64 << 10
)

// search returns the object with both tokens, wherever it begins: behind a
// notice, within another object, or behind one that was cut. If there is none
// it returns the first that tells anything or has not ended and does not stand
// within another one, else the last one, or none.
func search(data []byte) (first object) {
	outer := 0 // where the object ends that was found last
	for at, starts := 0, 0; starts < maxStarts; starts++ {
		next := bytes.IndexByte(data[at:], '{')
		if next < 0 {
			return first
		}
		at += next
		o := parse(data[at:])
		o.alone = len(bytes.TrimSpace(data[:at])) == 0
		switch {
		case o.both():
			return o
		case o.found && at >= outer:
			if !first.found || first.complete && !first.tells() {
				first = o
			}
			outer = at + o.size
			if !o.complete {
				outer = len(data)
			}
		}
		at++
	}
	return first
}

// readObject reads until an object has ended, or until nothing more comes: the
// error says why. data is what was read.
func readObject(r io.Reader) (o object, data []byte, err error) {
	chunk := make([]byte, 4<<10)
	for {
		n, err := r.Read(chunk)
		data = append(data, chunk[:n]...)
		if err != nil || len(data) <= small && bytes.IndexByte(chunk[:n], '}') >= 0 {
			o = search(data)
		}
		if o.complete && o.tells() || err != nil {
			return o, data, err
		}
	}
}
