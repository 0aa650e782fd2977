// Package ctxend tells a caller that its own context has ended. A caller that
// is told less cannot tell a deadline from a cancellation, and retries what it
// has given up itself: so the error answers what net/http's own would.
package ctxend

import (
	"context"
	"errors"
	"net"
)

// Error is the end of a caller's context while it waited. It is a [net.Error],
// and has the context's error and the cause of its end within.
type Error struct {
	text string
	errs []error
}

var _ net.Error = (*Error)(nil)

// Of returns the error of ctx, which has ended, with the cause that
// [context.WithCancelCause] and the like were given.
func Of(ctx context.Context) *Error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) || cause.Error() == err.Error() {
		return &Error{cause.Error(), []error{cause}}
	}
	return &Error{err.Error() + ": " + cause.Error(), []error{err, cause}}
}

// Wrap returns an Error that says what ended with the context before it says
// err, which is an Error too or has one within.
func Wrap(what string, err error) *Error {
	return &Error{what + ": " + err.Error(), []error{err}}
}

func (e *Error) Error() string { return e.text }

// Unwrap returns the context's error, and the cause of its end if that is
// another.
func (e *Error) Unwrap() []error { return e.errs }

// Timeout reports whether it was a deadline that ended the context.
// os.IsTimeout and *url.Error ask the error itself and not what it wraps.
func (e *Error) Timeout() bool {
	for _, err := range e.errs {
		if t, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && t.Timeout() {
			return true
		}
	}
	return false
}

// Temporary implements [net.Error]: a deadline may be longer next time.
func (e *Error) Temporary() bool { return e.Timeout() }
