package compose

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/b24go/b24oauth"
)

// Above b24oauth a span is a call of the program's, as long as all that it took; below, one
// is a request on the wire, whose query is kept from it: see TraceWire.
func Example_openTelemetry() {
	srv, config := portal()
	defer srv.Close()
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	reader := metric.NewManualReader()
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	onEvent, err := OTelEvents(meters.Meter("example"))
	if err != nil {
		fmt.Println(err)
		return
	}
	config.OnEvent = onEvent

	client := &http.Client{Transport: otelhttp.NewTransport(transport(config), otelhttp.WithTracerProvider(provider))}
	srv.ExpireAccessTokens()
	status, _ := call(client, srv, "crm.deal.list")
	fmt.Println(status)
	for _, span := range spans.GetSpans() {
		for _, event := range span.Events {
			fmt.Println(event.Name)
		}
	}
	// Output:
	// 200
	// b24oauth.replayed
}

func TestSpansAboveAndBelowHaveNoSecret(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	tr := transport(config)
	tr.Placement = b24oauth.PlaceQuery // the token is in the URL
	tr.Base = TraceWire(func(base http.RoundTripper) http.RoundTripper {
		return otelhttp.NewTransport(base, otelhttp.WithTracerProvider(provider))
	}, http.DefaultTransport)
	client := &http.Client{Transport: otelhttp.NewTransport(tr, otelhttp.WithTracerProvider(provider))}
	srv.ExpireAccessTokens()
	if status, body := call(client, srv, "crm.deal.list"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if n := len(spans.GetSpans()); n != 3 { // the call, and the request twice
		t.Errorf("%d spans", n)
	}
	for _, span := range spans.GetSpans() {
		for _, a := range span.Attributes {
			wantNoSecret(t, srv, fmt.Sprint(a))
		}
		wantNoSecret(t, srv, span.Name+fmt.Sprint(span.Events))
	}
}

func TestRenewalsAreMeasured(t *testing.T) {
	srv, config := portal()
	defer srv.Close()
	reader := metric.NewManualReader()
	onEvent, err := OTelEvents(metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	config.OnEvent = onEvent
	srv.ExpireAccessTokens()
	call(&http.Client{Transport: transport(config)}, srv, "profile")
	if err := config.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var measured metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &measured); err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, scope := range measured.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				found[m.Name] = data.DataPoints[0].Value
			case metricdata.Histogram[float64]:
				found[m.Name] = int64(data.DataPoints[0].Count)
			}
		}
	}
	if found["b24oauth.renewals"] != 1 || found["b24oauth.renewal.duration"] != 1 {
		t.Errorf("measured %v", found)
	}
}
