package proxy

import (
	"bytes"
	"encoding/json"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// A portal takes an auth field of the body rather than that of the query, where the
// token of a multipart body and of version 3 stands. A program that still sends a
// token of its own would be refused for it, and each refusal renew a token that works.
// Transport replaces the field in a query, a form and JSON; where it cannot, the
// program is told to leave it out.

// broughtToken returns the name of a token's field in a kept body that would reach
// the portal, "" if there is none.
func broughtToken(r *http.Request, method string, body []byte) string {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return ""
	case kind == "multipart/form-data":
		return tokenPart(multipart.NewReader(bytes.NewReader(body), params["boundary"]))
	case kind == "application/json" && strings.HasPrefix(method, "api/"):
		return tokenKey(body)
	}
	return ""
}

// tokenPart returns the first field of a form that is a token. What is no form is the
// portal's to refuse.
func tokenPart(form *multipart.Reader) string {
	for {
		part, err := form.NextPart()
		if err != nil {
			return ""
		}
		if name := part.FormName(); part.FileName() == "" && isToken(name) {
			return name
		}
	}
}

// tokenKey returns the key of a JSON object that is a token.
func tokenKey(body []byte) string {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return "" // a batch is an array, and what is no JSON is the portal's to refuse
	}
	for key := range object {
		if isToken(key) {
			return key
		}
	}
	return ""
}

// isToken reports whether PHP reads a field of that name as a token.
func isToken(name string) bool {
	name, _, _ = strings.Cut(strings.TrimLeft(name, " "), "[")
	return name == "auth" || name == "access_token"
}

// bringsWebhook reports whether a query has the number and the secret of an incoming
// webhook, with which Transport passes a request on as it is.
func bringsWebhook(query url.Values) bool {
	has := make(map[string]bool, len(query))
	for name := range query {
		has[strings.TrimLeft(name, " ")] = true
	}
	return has["aplogin"] && has["ap"] || has["auth[aplogin]"] && has["auth[ap]"]
}
