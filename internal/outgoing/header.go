package outgoing

import (
	"net/http"
	"slices"
	"strings"
)

// noted is what of the caller's header matters here. Header names are the same
// to a portal in any case, and in a map that the caller wrote himself they may
// stand in any: Header.Get finds but one of them.
type noted struct {
	contentType string // "" if there are several, since it is the portal's choice then
	encoded     bool   // there is a Content-Encoding
	expects     bool   // the body is not sent before the portal asks for it
	bearer      bool   // there is a Bearer authorization
	misleading  bool   // there is a Host or a Content-Length
}

func note(h http.Header) (n noted) {
	usual := 0
	contentType, has := h["Content-Type"]
	if has {
		usual++
	}
	for _, name := range [...]string{"Accept", "User-Agent"} {
		if usual == len(h) {
			break
		}
		if _, has := h[name]; has {
			usual++
		}
	}
	if usual == len(h) {
		if len(contentType) == 1 {
			n.contentType = contentType[0]
		}
		return n // to walk through a map takes longer than all else here
	}
	types := 0
	for name, values := range h {
		switch {
		case is(name, "Content-Type"):
			if types += len(values); types == 1 {
				n.contentType = values[0]
			}
		case is(name, "Content-Encoding"):
			n.encoded = n.encoded || slices.ContainsFunc(values, func(v string) bool { return v != "" })
		case is(name, "Expect"):
			n.expects = true
		case is(name, "Authorization"):
			n.bearer = n.bearer || slices.ContainsFunc(values, isBearer)
		case is(name, "Host"), is(name, "Content-Length"):
			n.misleading = true
		}
	}
	if types > 1 {
		n.contentType = ""
	}
	return n
}

// is reports whether name is that header's, in any case. Names are ASCII, so
// those of another length are not.
func is(name, header string) bool {
	return len(name) == len(header) && strings.EqualFold(name, header)
}

// header returns the header to send: the caller's with the token as its Bearer
// authorization, or with none if token is empty, since a portal looks at one
// before it looks at the auth parameter. A Host or Content-Length in it would
// be sent beside the request's own, if it is spelled unusually, and count
// where that does not. The caller's map is not changed.
func header(h http.Header, n noted, token string) http.Header {
	if token == "" && !n.bearer && !n.misleading {
		return h
	}
	out := make(http.Header, len(h)+1)
	for name, values := range h {
		switch {
		case is(name, "Host"), is(name, "Content-Length"), is(name, "Authorization") && (token != "" || n.bearer):
		default:
			out[name] = slices.Clip(values) // what a transport appends is not the caller's
		}
	}
	if token != "" {
		out["Authorization"] = []string{"Bearer " + token}
	}
	return out
}

func isBearer(authorization string) bool {
	const scheme = "Bearer"
	authorization = strings.TrimLeft(authorization, " \t") // as it is sent
	n := len(scheme)
	return len(authorization) >= n && strings.EqualFold(authorization[:n], scheme) &&
		(len(authorization) == n || authorization[n] == ' ' || authorization[n] == '\t')
}
