package compose

import (
	"context"
	"net/http"
)

// TraceWire returns a Base for a [b24oauth.Transport] that is traced on the wire, each
// sending apart, without the token: what traces it, such as otelhttp.NewTransport, does not
// see the query, in which a GET has it. A POST has it in the body, which nobody traces.
func TraceWire(trace func(base http.RoundTripper) http.RoundTripper, base http.RoundTripper) http.RoundTripper {
	return hidden{trace(shown{base})}
}

type queryKey struct{}

// hidden takes the query out of a request, and shown puts it back.
type (
	hidden struct{ base http.RoundTripper }
	shown  struct{ base http.RoundTripper }
)

func (t hidden) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(context.WithValue(r.Context(), queryKey{}, r.URL.RawQuery))
	out.URL.RawQuery = ""
	return t.base.RoundTrip(out)
}

func (t shown) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.RawQuery, _ = r.Context().Value(queryKey{}).(string)
	return t.base.RoundTrip(out)
}
