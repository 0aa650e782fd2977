package compose

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func ExamplePrometheusEvents() {
	srv, config := portal()
	defer srv.Close()
	registry := prometheus.NewRegistry()
	onEvent, err := PrometheusEvents(registry)
	if err != nil {
		fmt.Println(err)
		return
	}
	config.OnEvent = onEvent

	srv.ExpireAccessTokens()
	call(&http.Client{Transport: transport(config)}, srv, "crm.deal.list")
	if err := config.Flush(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(testutil.GatherAndCount(registry, "b24oauth_events_total")) // renewed and replayed
	// Output: 2 <nil>
}
