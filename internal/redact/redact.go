// Package redact keeps secrets out of what is shown to others.
//
// Errors of others may quote what they were given: a transport the URL of a
// request, a database driver the values of its statement. A panic's value may
// be anything, and a trace of net/http hears the headers that are sent. What
// they say is kept, without the secrets.
package redact

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// placeholder stands for a secret.
const placeholder = "[REDACTED]"

// Quotes reports whether text contains the secret, as it is or as a URL
// writes it. It contains no empty one.
func Quotes(text, secret string) bool {
	return secret != "" && (strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)))
}

// Text returns text without the secrets in any form.
func Text(text string, secrets ...string) string {
	for _, secret := range secrets {
		if Quotes(text, secret) {
			text = strings.ReplaceAll(text, secret, placeholder)
			text = strings.ReplaceAll(text, url.QueryEscape(secret), placeholder)
		}
	}
	return text
}

// Shorten limits a stranger's text to what a log line bears.
func Shorten(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// Host quotes a stranger's host whole or says how long it is: one that is cut
// short may end within a secret, which Text does not recognise any more.
func Host(host string) string {
	const limit = 253 + len(":65535") // of a name that can be looked up, with a port
	if len(host) > limit {
		return fmt.Sprintf("of %d bytes", len(host))
	}
	return strconv.Quote(host)
}

// Panic describes a panic in the user's code without its value, which may hold
// anything: by the runtime's own words, else by the type.
func Panic(v any) string {
	if err, ok := v.(interface {
		error
		RuntimeError()
	}); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", v)
}
