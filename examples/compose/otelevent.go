package compose

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24go/b24oauth"
)

// OTelEvents returns a [b24oauth.Config.OnEvent] that tells OpenTelemetry of every event:
// as an event of the span of the call that it belongs to, and of renewals as a counter
// and a histogram of their length. An event has no secret in it; the key is a name that
// the program has chosen, so leave it out of metrics if there are many.
func OTelEvents(meter metric.Meter) (func(context.Context, b24oauth.Event), error) {
	renewals, err := meter.Int64Counter("b24oauth.renewals", metric.WithDescription("renewals of a grant by how they ended"))
	if err != nil {
		return nil, err
	}
	durations, err := meter.Float64Histogram("b24oauth.renewal.duration", metric.WithUnit("s"))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e b24oauth.Event) {
		attributes := []attribute.KeyValue{attribute.String("b24oauth.key", e.Key)}
		if e.Code != "" {
			attributes = append(attributes, attribute.String("b24oauth.code", e.Code))
		}
		trace.SpanFromContext(ctx).AddEvent("b24oauth."+e.Kind.String(), trace.WithAttributes(attributes...))
		if e.Kind == b24oauth.EventRenewed || e.Kind == b24oauth.EventRenewFailed {
			outcome := metric.WithAttributes(attribute.String("outcome", e.Kind.String()))
			renewals.Add(ctx, 1, outcome)
			durations.Record(ctx, e.Duration.Seconds(), outcome)
		}
	}, nil
}
