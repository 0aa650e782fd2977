package authparam

import (
	"bytes"
	"slices"
)

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

// InsertJSON returns body, a whole JSON object, with the token as
// [NewJSONReader] puts it there. It works in place if body has room for
// [JSONOverhead] more bytes.
func InsertJSON(body []byte, token string) []byte {
	n, more := len(body), int(JSONOverhead(token))
	body = slices.Grow(body, more)[:n+more]
	end := len(bytes.TrimRight(body[:n], jsonSpace)) - 1
	if end < 0 || body[end] != '}' { // no JSON, and to stay none
		for i := range body[n:] {
			body[n+i] = ' '
		}
		return body
	}
	copy(body[end+more:], body[end:n])
	appendMember(body[:end], token)
	if len(bytes.Trim(body[:end], jsonSpace)) == 1 { // the brace at its start
		body[end] = ' '
	}
	return body
}

const jsonSpace = " \n\t\r"
