// Package address knows where secrets may go, and when two addresses are of
// one host. A comparison that is too lenient gives a token to a stranger, one
// that is too strict keeps it from its portal.
package address

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/b24go/b24oauth/internal/redact"
)

// A Portal is where REST methods are: the base of their URLs. Host is in the one
// form in which hosts are compared, and Path begins and ends with a slash.
type Portal struct{ Scheme, Host, Path string }

// String returns the base URL.
func (p Portal) String() string {
	return p.Scheme + "://" + p.Host + (&url.URL{Path: p.Path}).EscapedPath()
}

// Has reports whether u is at the portal's host and has its scheme.
func (p Portal) Has(u *url.URL) bool {
	// Most URLs are written as Host is, and need not be brought into that form.
	return u.Scheme == p.Scheme && (u.Host == p.Host || CanonicalHost(u) == p.Host)
}

// RestPath is the path of REST methods, unless a portal has moved them.
const RestPath = "/rest/"

// ParseEndpoint reads the base URL of a portal's REST methods: https (http on
// loopback), a host without user info, a path.
func ParseEndpoint(s string) (Portal, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Portal{}, errors.New("client_endpoint is no URL")
	}
	switch {
	case u.Hostname() == "":
		return Portal{}, errors.New("client_endpoint has no host")
	case !Secure(u):
		return Portal{}, fmt.Errorf("client_endpoint is not https (host %s)", redact.Host(u.Host))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return Portal{}, fmt.Errorf("client_endpoint has user info or a query (host %s)", redact.Host(u.Host))
	case strings.Trim(path.Clean(u.Path), "/.") == "":
		return Portal{}, fmt.Errorf("client_endpoint has no path, which is /rest/ unless the portal has moved its methods (host %s)", redact.Host(u.Host))
	}
	if BearsOwnSecret(u.JoinPath("method"), RestPath) {
		return Portal{}, fmt.Errorf("client_endpoint is an incoming webhook, which takes no token (host %s)", redact.Host(u.Host))
	}
	return Portal{u.Scheme, CanonicalHost(u), path.Clean("/"+u.Path) + "/"}, nil
}

// Secure reports whether secrets may go to u: over https, or over http if
// they do not leave the machine.
func Secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname())
}

// IsLoopback reports whether a host is this machine itself, by address or by
// one of the names that RFC 6761 reserves for it.
func IsLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// CanonicalHost returns the host as it is looked up, in lower case and IDNA's
// ASCII form, with the port if it is not the scheme's own.
func CanonicalHost(u *url.URL) string {
	if isCanonical(u.Host) {
		return u.Host // the common case, made short
	}
	host, port := strings.ToLower(u.Host), u.Port()
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		name, err := idna.Lookup.ToASCII(u.Hostname()) // as net/http does
		if err != nil {
			return u.Host // no valid name: lower case could make it equal to a portal's
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

// isCanonical reports whether a host is in ASCII and lower case, and has no
// port.
func isCanonical(host string) bool {
	for i := range len(host) {
		if c := host[i]; c >= utf8.RuneSelf || c == ':' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// SameEndpoint reports whether two addresses are of one portal, however they
// are written.
func SameEndpoint(a, b string) bool {
	u, err := ParseEndpoint(a)
	v, bad := ParseEndpoint(b)
	return err == nil && bad == nil && u == v
}
