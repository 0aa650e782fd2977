package b24oauth

import (
	"context"
	"net/http/httptrace"
	"strings"
)

// quietTrace is a context whose httptrace.ClientTrace does not learn the
// secrets in the headers that net/http tells it of: HTTP/2 sends the path with
// its query as one, and an Authorization may be ours.
type quietTrace struct{ context.Context }

// hearsHeaders reports whether a trace in ctx is told what headers are sent.
func hearsHeaders(ctx context.Context) bool {
	trace := httptrace.ContextClientTrace(ctx)
	return trace != nil && trace.WroteHeaderField != nil
}

// Value finds the trace by its type, since its key is not exported.
func (c quietTrace) Value(key any) any {
	v := c.Context.Value(key)
	trace, ok := v.(*httptrace.ClientTrace)
	if !ok || trace == nil || trace.WroteHeaderField == nil {
		return v
	}
	quiet := *trace
	quiet.WroteHeaderField = func(name string, values []string) {
		trace.WroteHeaderField(name, quietHeader(name, values))
	}
	return &quiet
}

func quietHeader(name string, values []string) []string {
	switch strings.ToLower(name) {
	case ":path":
		out := make([]string, len(values))
		for i, path := range values {
			out[i], _, _ = strings.Cut(path, "?")
		}
		return out
	case "authorization":
		return []string{redacted}
	}
	return values
}
