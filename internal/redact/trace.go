package redact

import (
	"context"
	"net/http/httptrace"
	"strings"
)

// Trace returns a context whose httptrace.ClientTrace does not learn the
// secrets in the headers that net/http reports to it: HTTP/2 sends the path with
// its query as one, and an Authorization may be ours. needed is false if no
// trace in ctx gets the headers that are sent; the context is ctx then.
func Trace(ctx context.Context) (redacted context.Context, needed bool) {
	if trace := httptrace.ContextClientTrace(ctx); trace == nil || trace.WroteHeaderField == nil {
		return ctx, false
	}
	return traceContext{ctx}, true
}

type traceContext struct{ context.Context }

// Value finds the trace by its type, since its key is not exported.
func (c traceContext) Value(key any) any {
	v := c.Context.Value(key)
	trace, ok := v.(*httptrace.ClientTrace)
	if !ok || trace == nil || trace.WroteHeaderField == nil {
		return v
	}
	redacted := *trace
	redacted.WroteHeaderField = func(name string, values []string) {
		trace.WroteHeaderField(name, redactHeader(name, values))
	}
	return &redacted
}

func redactHeader(name string, values []string) []string {
	switch strings.ToLower(name) {
	case ":path":
		out := make([]string, len(values))
		for i, path := range values {
			out[i], _, _ = strings.Cut(path, "?")
		}
		return out
	case "authorization":
		return []string{placeholder}
	}
	return values
}
