package authparam

import "bytes"

// Small bodies are in memory as a whole, where there is less to be done than
// for streams, with the same result.

// BlankForm overwrites each of the caller's auth fields in form, a whole
// body, as [NewFormReader] does. The token goes in front of it, as a field of
// its own.
func BlankForm(form []byte) {
	var r formReader
	r.blank(form, true)
}

// IsJSONObject reports whether [SniffJSONObject] finds an object in body, of
// which it has the start.
func IsJSONObject(body []byte) bool {
	for _, c := range body[:min(len(body), sniffLimit)] {
		if !isSpace(c) {
			return c == '{'
		}
	}
	return false
}

// InsertJSON returns body, a whole JSON object, with member as [NewJSONReader]
// puts it there. It works in place if body has room for it.
func InsertJSON(body, member []byte) []byte {
	end := len(body) - 1
	for end >= 0 && isSpace(body[end]) {
		end--
	}
	body = append(body, member...)
	if end < 0 || body[end] != '}' { // no JSON, and to stay none
		for i := len(body) - len(member); i < len(body); i++ {
			body[i] = ' '
		}
		return body
	}
	copy(body[end+len(member):], body[end:])
	copy(body[end:], member)
	before := end - 1
	for before >= 0 && isSpace(body[before]) {
		before--
	}
	if before == bytes.IndexByte(body, '{') { // nothing but white space is in the object
		body[end] = ' '
	}
	return body
}
