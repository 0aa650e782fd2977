package b24oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The errors of others may quote what they were given: a transport the URL of
// a request, a database driver the values of its statement. What they say is
// kept, without the secrets.

// quietError is an error whose text was redacted. It still answers errors.Is,
// which tells nothing but yes or no, and errors.As for the causes that quote
// no secret: a *net.OpError within a *url.Error, say.
type quietError struct {
	text    string
	causes  []error
	is      func(target error) bool // a field with the error itself would be printed by %#v
	timeout bool
}

func (e *quietError) Error() string        { return e.text }
func (e *quietError) Is(target error) bool { return e.is(target) }
func (e *quietError) Unwrap() []error      { return e.causes }
func (e *quietError) Timeout() bool        { return e.timeout }

// MarshalText makes JSON tell the error and no more than Error does.
func (e *quietError) MarshalText() ([]byte, error) { return []byte(e.text), nil }

// quotedQuery is a query that a secret stood in. Nothing of it is told.
var quotedQuery = regexp.MustCompile(`\?[^\s"'<>]*` + regexp.QuoteMeta(redacted) + `[^\s"'<>]*`)

// quiet returns err, or what can be told of it if it quotes a secret.
func quiet(err error, secrets ...string) error {
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return secret == "" })
	if err == nil || len(secrets) == 0 || !shows(err, secrets) {
		return err
	}
	return &quietError{
		text:    quotedQuery.ReplaceAllString(redactText(err.Error(), secrets...), "?"+redacted),
		causes:  quietCauses(err, secrets),
		is:      func(target error) bool { return errors.Is(err, target) },
		timeout: isTimeout(err),
	}
}

// quietCauses returns the outermost of the errors within err that show no
// secret.
func quietCauses(err error, secrets []string) (quiet []error) {
	for _, cause := range within(err) {
		if shows(cause, secrets) {
			quiet = append(quiet, quietCauses(cause, secrets)...)
		} else {
			quiet = append(quiet, cause)
		}
	}
	return quiet
}

// within returns what err wraps.
func within(err error) (causes []error) {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = slices.Clone(e.Unwrap())
	}
	return slices.DeleteFunc(causes, func(cause error) bool { return cause == nil })
}

// shows reports whether err, or one that it wraps, shows a secret when it is
// printed or marshalled in any way.
func shows(err error, secrets []string) bool {
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), asJSON(err)} {
		if slices.ContainsFunc(secrets, func(secret string) bool { return quotes(text, secret) }) {
			return true
		}
	}
	return slices.ContainsFunc(within(err), func(cause error) bool { return shows(cause, secrets) })
}

// asJSON returns what encoding/json makes of an error, which follows pointers
// where fmt does not.
func asJSON(err error) (text string) {
	defer func() { _ = recover() }() // a MarshalJSON that panics tells nothing
	data, failure := json.Marshal(err)
	if failure != nil {
		return failure.Error()
	}
	return string(data)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// withoutTokens returns an error of the Store without the tokens of the
// grants that it may be about.
func withoutTokens(err error, grants ...*Grant) error {
	var secrets []string
	for _, g := range grants {
		if g == nil {
			continue
		}
		for _, f := range g.secrets() {
			secrets = append(secrets, *f.value)
		}
	}
	return quiet(err, secrets...)
}

// quotes reports whether text contains the secret, as it is or as a URL
// writes it.
func quotes(text, secret string) bool {
	return secret != "" && (strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)))
}

const redacted = "[REDACTED]" // what stands for a secret

// redactText returns text without the secrets in any form.
func redactText(text string, secrets ...string) string {
	for _, secret := range secrets {
		if quotes(text, secret) {
			text = strings.ReplaceAll(text, secret, redacted)
			text = strings.ReplaceAll(text, url.QueryEscape(secret), redacted)
		}
	}
	return text
}
