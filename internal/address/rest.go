package address

import (
	"net/url"
	"path"
	"strings"

	"github.com/b24go/b24oauth/internal/authparam"
)

// SplitOpaque returns the path and the query that a URL with an Opaque asks
// for, as they are spelled. Opaque may name a host of its own, which is not
// the one that the request is sent to, and may have a query before RawQuery.
func SplitOpaque(u *url.URL) (path, query string) {
	path = u.Opaque
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	if scheme, rest, ok := strings.Cut(path, "://"); ok && !strings.ContainsAny(scheme, "/?") {
		path = "//" + rest
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = strings.TrimLeftFunc(rest, func(r rune) bool { return r != '/' && r != '?' })
	}
	path, query, _ = strings.Cut(path, "?")
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path, query
}

// Method returns the path of u below base, cleaned of doubled slashes, which
// Bitrix24's own JavaScript SDK sends. "" if it is not below base.
func Method(u *url.URL, base string) string {
	p := u.Path
	if u.Opaque != "" {
		p, _ = SplitOpaque(u)
		if decoded, err := url.PathUnescape(p); err == nil {
			p = decoded
		}
	}
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	if strings.Contains(p, "//") || strings.Contains(p, "/.") {
		p = path.Clean(p)
	}
	rest, ok := strings.CutPrefix(strings.TrimSuffix(p, "/"), base)
	if !ok {
		return ""
	}
	return rest
}

// IsV3 reports whether u is a method of REST version 3, at a portal whose
// methods are below base.
func IsV3(u *url.URL, base string) bool {
	return strings.HasPrefix(Method(u, base), "api/")
}

// isWebhook reports whether a path below the base is an incoming webhook's.
func isWebhook(method string) bool {
	number, secret, ok := strings.Cut(strings.TrimPrefix(method, "api/"), "/")
	return ok && number != "" && secret != "" && strings.Trim(number, "0123456789") == ""
}

// isMethod reports whether the path is base and a method's name, and no more:
// the usual case, made short.
func isMethod(u *url.URL, base string) bool {
	n := len(base)
	return len(u.Path) > n && u.Path[n] > '9' && strings.HasPrefix(u.Path, base) && strings.IndexByte(u.Path[n:], '/') < 0 && u.Opaque == ""
}

// BearsOwnSecret reports whether the request needs no token because its URL
// is the secret: an incoming webhook, whose path below base is
// [api/]number/secret/ or whose query has the same as aplogin and ap, or a
// signed file link, which has a token field in its query.
func BearsOwnSecret(u *url.URL, base string) bool {
	if !isMethod(u, base) && isWebhook(Method(u, base)) {
		return true
	}
	query := u.RawQuery
	if u.Opaque != "" {
		_, query = SplitOpaque(u)
	}
	return query != "" && authparam.BearsOwnSecret(query)
}
