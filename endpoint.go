package b24oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/b24go/b24oauth/internal/redact"
)

// Where secrets may go, and when two addresses are the same one.

// parseEndpoint reads the base URL of a portal's REST methods: https (http on
// loopback), a host without user info, /rest/. Host and port come out in the
// one form in which they are compared.
func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("client_endpoint is no URL")
	}
	switch {
	case u.Hostname() == "":
		return nil, errors.New("client_endpoint has no host")
	case !secureURL(u):
		return nil, fmt.Errorf("client_endpoint is not https (host %q)", redact.Shorten(u.Host))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("client_endpoint has user info or a query (host %q)", redact.Shorten(u.Host))
	case strings.Trim(u.Path, "/") != "rest":
		return nil, fmt.Errorf("the path of client_endpoint is not /rest/ (host %q)", redact.Shorten(u.Host))
	}
	return &url.URL{Scheme: u.Scheme, Host: canonicalHost(u), Path: "/rest/"}, nil
}

// secureURL reports whether secrets may go to u: over https, or over http if
// they do not leave the machine.
func secureURL(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())
}

// isLoopback reports whether a host is this machine itself, by address or by
// one of the names that RFC 6761 reserves for it.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// canonicalHost returns the host as it is looked up, in lower case and IDNA's
// ASCII form, with the port if it is not the scheme's own.
func canonicalHost(u *url.URL) string {
	host, port := strings.ToLower(u.Host), u.Port()
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		name, err := idna.Lookup.ToASCII(u.Hostname()) // as net/http does
		if err != nil {
			return u.Host // nobody's, and not to be folded into somebody's
		}
		if host = name; port != "" {
			host += ":" + port
		}
	}
	if port == "" || port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return host
}

// sameEndpoint reports whether two addresses are of one portal, however they
// are written.
func sameEndpoint(a, b string) bool {
	u, err := parseEndpoint(a)
	v, bad := parseEndpoint(b)
	return err == nil && bad == nil && *u == *v
}

// proxy is the environment's, never for this machine itself.
func proxy(req *http.Request) (*url.URL, error) {
	if isLoopback(req.URL.Hostname()) {
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
	if _, err := netip.ParseAddr(host); req.URL.Scheme != "http" || !isLoopback(host) || err == nil {
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
