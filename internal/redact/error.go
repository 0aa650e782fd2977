package redact

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
)

// redactedError is an error whose text was redacted. It still answers
// errors.Is, which tells nothing but yes or no, and errors.As for the causes
// that quote no secret: a *net.OpError within a *url.Error, say.
type redactedError struct {
	text    string
	causes  []error
	is      func(target error) bool // a field with the error itself would be printed by %#v
	timeout bool
	passes  bool // what Temporary says
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) Is(target error) bool { return e.is(target) }
func (e *redactedError) Unwrap() []error      { return e.causes }
func (e *redactedError) Timeout() bool        { return e.timeout }
func (e *redactedError) Temporary() bool      { return e.passes }

// MarshalText makes JSON tell the error and no more than Error does.
func (e *redactedError) MarshalText() ([]byte, error) { return []byte(e.text), nil }

// quotedQuery is a query that a secret stood in. Nothing of it is shown.
var quotedQuery = regexp.MustCompile(`\?[^\s"'<>]*` + regexp.QuoteMeta(placeholder) + `[^\s"'<>]*`)

// Error returns err, or what can be shown of it if it quotes one of the
// secrets; empty ones do not count.
func Error(err error, secrets ...string) error {
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return secret == "" })
	if err == nil || len(secrets) == 0 || !shows(err, secrets) {
		return err
	}
	var (
		t interface{ Timeout() bool }
		p interface{ Temporary() bool }
	)
	return &redactedError{
		text:    quotedQuery.ReplaceAllString(Text(err.Error(), secrets...), "?"+placeholder),
		causes:  harmlessCauses(err, secrets),
		is:      func(target error) bool { return errors.Is(err, target) },
		timeout: errors.As(err, &t) && t.Timeout(),
		passes:  errors.As(err, &p) && p.Temporary(),
	}
}

// harmlessCauses returns the outermost of the errors within err that show no
// secret.
func harmlessCauses(err error, secrets []string) (harmless []error) {
	for _, cause := range within(err) {
		if shows(cause, secrets) {
			harmless = append(harmless, harmlessCauses(cause, secrets)...)
		} else {
			harmless = append(harmless, cause)
		}
	}
	return harmless
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
		if slices.ContainsFunc(secrets, func(secret string) bool { return Quotes(text, secret) }) {
			return true
		}
	}
	return slices.ContainsFunc(within(err), func(cause error) bool { return shows(cause, secrets) })
}

// asJSON returns what encoding/json makes of an error, which follows pointers
// where fmt does not.
func asJSON(err error) (text string) {
	defer func() { _ = recover() }() // a MarshalJSON that panics shows nothing
	data, failure := json.Marshal(err)
	if failure != nil {
		return failure.Error()
	}
	return string(data)
}

// WithoutURL returns what went wrong without the request's URL, which
// http.Client puts around it, and some transports do.
func WithoutURL(err error) error {
	for {
		ue, ok := err.(*url.Error)
		switch {
		case !ok:
			return err
		case ue.Err == nil:
			return errors.New("no reason given")
		}
		err = ue.Err
	}
}
