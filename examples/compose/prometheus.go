package compose

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/b24go/b24oauth"
)

// PrometheusEvents returns a [b24oauth.Config.OnEvent] that counts events by their kind and
// measures renewals.
func PrometheusEvents(r prometheus.Registerer) (func(context.Context, b24oauth.Event), error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "b24oauth_events_total", Help: "Events of grants by kind."}, []string{"kind"})
	durations := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "b24oauth_renewal_duration_seconds", Help: "How long renewals took.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 9)})
	for _, c := range []prometheus.Collector{events, durations} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, e b24oauth.Event) {
		events.WithLabelValues(e.Kind.String()).Inc()
		if e.Kind == b24oauth.EventRenewed {
			durations.Observe(e.Duration.Seconds())
		}
	}, nil
}
