package ctxend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
)

// odd is a context of somebody's own, whose error cannot be compared.
type odd struct{ context.Context }

type oddError []string

func (oddError) Error() string { return "odd" }
func (odd) Err() error         { return oddError{"a"} }

func TestEndOfAContextIsToldAsNetHTTPTellsIt(t *testing.T) {
	past := time.Now().Add(-time.Second)
	for _, c := range []struct {
		name    string
		end     func(context.Context) context.Context
		timeout bool
		is      []error
		text    string
	}{
		{"cancelled", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		}, false, []error{context.Canceled}, "context canceled"},
		{"cancelled with a cause", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(io.ErrClosedPipe)
			return ctx
		}, false, []error{context.Canceled, io.ErrClosedPipe}, "context canceled: io: read/write on closed pipe"},
		{"cancelled with a cause that says so", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(fmt.Errorf("shut down: %w", context.Canceled))
			return ctx
		}, false, []error{context.Canceled}, "shut down: context canceled"},
		{"cancelled because of a timeout", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(os.ErrDeadlineExceeded)
			return ctx
		}, true, []error{context.Canceled, os.ErrDeadlineExceeded}, "context canceled: i/o timeout"},
		{"past its deadline", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithDeadline(ctx, past)
			cancel()
			return ctx
		}, true, []error{context.DeadlineExceeded}, "context deadline exceeded"},
		{"past its deadline with a cause", func(ctx context.Context) context.Context {
			ctx, cancel := context.WithDeadlineCause(ctx, past, io.ErrNoProgress)
			cancel()
			return ctx
		}, true, []error{context.DeadlineExceeded, io.ErrNoProgress}, "context deadline exceeded: multiple Read calls return no data or error"},
		{"of its own kind", func(ctx context.Context) context.Context { return odd{ctx} }, false, nil, "odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for prefix, err := range map[string]error{
				"":        ctxend.Of(c.end(t.Context())),
				"outer: ": ctxend.Wrap("outer", ctxend.Of(c.end(t.Context()))),
			} {
				ne, ok := err.(net.Error)
				if !ok || ne.Timeout() != c.timeout || os.IsTimeout(err) != c.timeout {
					t.Errorf("%v: a net.Error %v, os.IsTimeout %v; want %v", err, ok, os.IsTimeout(err), c.timeout)
				}
				for _, is := range c.is {
					if !errors.Is(err, is) {
						t.Errorf("%v is not %v", err, is)
					}
				}
				if err.Error() != prefix+c.text {
					t.Errorf("Error() = %q, want %q", err, prefix+c.text)
				}
			}
		})
	}
}
