package safehttp

import (
	"net/http"
	"testing"

	"github.com/hashicorp/go-retryablehttp"
)

func TestNamesUnderLocalhostAreThisMachine(t *testing.T) {
	for rt, want := range map[http.RoundTripper]bool{
		ownTransport: true, http.DefaultTransport: true, new(http.Transport): false, &retryablehttp.RoundTripper{}: false,
	} {
		if got := isDefault(rt); got != want {
			t.Errorf("isDefault(%T %p) = %v", rt, rt, got)
		}
	}
	for from, want := range map[string]string{
		"http://portal.localhost:8080/rest/m?a=1": "http://localhost:8080/rest/m?a=1",
		"http://LOCALHOST/rest/m":                 "http://localhost/rest/m",
		"http://127.0.0.1:8080/rest/m":            "http://127.0.0.1:8080/rest/m",
		"http://[::1]/rest/m":                     "http://[::1]/rest/m",
		"https://portal.localhost/rest/m":         "https://portal.localhost/rest/m", // its certificate is checked by this name
		"http://portal.example/rest/m":            "http://portal.example/rest/m",
		"http:":                                   "http:",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, from, nil)
		if err != nil {
			t.Fatal(err)
		}
		host := req.Host
		out := toThisMachine(req)
		if got := out.URL.String(); got != want || out.Host != host || req.URL.String() != from {
			t.Errorf("%s goes to %s with Host %q, want %s with %q", from, got, out.Host, want, host)
		}
	}
}
