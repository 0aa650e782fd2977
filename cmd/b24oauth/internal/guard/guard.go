// Package guard keeps web pages away from a server on loopback. Any page that a
// user opens can send requests to 127.0.0.1 from his browser: by a form, a script or
// an image, or, with a name of its own that resolves to 127.0.0.1 (DNS rebinding),
// as if it were that server's own page, which may read the answers too.
package guard

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Loopback passes to next what asks for this machine by a loopback address or by
// a name that browsers resolve to one (localhost, *.localhost), with any port, and
// comes from no page of another origin. Another port is another origin, and so is
// that of a sandboxed frame ("null"). Programs that are no browsers send no Origin and
// pass.
//
// Hosts are further names and addresses, without ports, that next may be asked
// by. They are for servers that listen elsewhere.
//
// Everything else is answered 403 with a JSON error, whatever its method: to a
// proxy even a GET may change something.
func Loopback(next http.Handler, hosts ...string) http.Handler {
	next = SameOrigin(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := hostname(r.Host); !isLoopback(name) && !slices.ContainsFunc(hosts, func(host string) bool { return strings.EqualFold(host, name) }) {
			refuse(w, "foreign_host", "This server answers to "+strings.Join(append([]string{"127.0.0.1", "localhost"}, hosts...), ", ")+
				" only, because a web page can make other names lead here. Ask for it by one of these.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// SameOrigin is Loopback for a server that may be asked by any name, since it listens
// at addresses whose names it cannot know. A page whose own name leads here passes it,
// so next must ask each request for a secret that no page has.
func SameOrigin(next http.Handler) http.Handler {
	var origins http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Check passes every GET. Asked about a POST, it tells where the request is from.
		asPost := *r
		asPost.Method = http.MethodPost
		if origins.Check(&asPost) != nil {
			refuse(w, "foreign_origin", "This request comes from a web page of another origin. Open the address itself, or ask from a program that is no browser.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostname is a Host header without the port and the brackets of IPv6.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func isLoopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.IsLoopback()
	}
	name = strings.ToLower(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// refuse answers in the form of Bitrix24's errors, which clients of a portal read.
func refuse(w http.ResponseWriter, code, description string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusForbidden)
	// A failure means that the client has gone.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
}
