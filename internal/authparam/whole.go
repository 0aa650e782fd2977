package authparam

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
	n, brace := len(body), lastBrace(body)
	body = append(body, member...)
	if brace == n { // no JSON, and to stay none
		for i := range body[n:] {
			body[n+i] = ' '
		}
		return body
	}
	copy(body[brace+len(member):], body[brace:n])
	copy(body[brace:], member)
	var object jsonReader
	if object.look(body[:brace]); !object.filled {
		body[brace] = ' '
	}
	return body
}
