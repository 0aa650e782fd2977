package safehttp

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/b24go/b24oauth/internal/address"
)

// proxy is the environment's, never for this machine itself.
func proxy(req *http.Request) (*url.URL, error) {
	if address.IsLoopback(req.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// isDefault reports whether a transport is our own or the default one, of
// which it is known how they find a host.
func isDefault(rt http.RoundTripper) bool {
	tr, ok := rt.(*http.Transport)
	usual, _ := http.DefaultTransport.(*http.Transport)
	return ok && (tr == ownTransport || tr == usual)
}

// toThisMachine returns req, or a copy that reaches this machine by its usual
// name: net/http would take a name under localhost to a proxy, or ask for it
// on the network, and without TLS everybody on the way could read along.
func toThisMachine(req *http.Request) *http.Request {
	host := req.URL.Hostname()
	if _, err := netip.ParseAddr(host); req.URL.Scheme != "http" || !address.IsLoopback(host) || err == nil {
		return req
	}
	out, u := req.WithContext(req.Context()), *req.URL
	if out.URL = &u; out.Host == "" {
		out.Host = u.Host
	}
	u.Host = "localhost"
	if port := req.URL.Port(); port != "" {
		u.Host += ":" + port
	}
	return out
}
