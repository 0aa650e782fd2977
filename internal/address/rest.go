package address

import (
	"net/url"
	"path"
	"strings"
)

// RestPath returns the path of u below /rest/, cleaned of doubled slashes,
// which Bitrix24's own JavaScript SDK sends. "" if it is not below /rest/.
func RestPath(u *url.URL) string {
	p := u.Path
	if u.Opaque != "" {
		p = "/" + strings.TrimLeft(u.Opaque, "/")
		if strings.HasPrefix(u.Opaque, "//") {
			_, p, _ = strings.Cut(u.Opaque[2:], "/")
			p = "/" + p
		}
	}
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	rest, ok := strings.CutPrefix(path.Clean(p), "/rest/")
	if !ok {
		return ""
	}
	return rest
}

// IsV3 reports whether u is a method of REST version 3.
func IsV3(u *url.URL) bool {
	return strings.HasPrefix(RestPath(u), "api/")
}

// BearsOwnSecret reports whether the request needs no token because its URL
// is the secret: an incoming webhook, whose path is /rest/[api/]number/secret/,
// or a signed file link, which has a token field in its query.
func BearsOwnSecret(u *url.URL) bool {
	number, secret, ok := strings.Cut(strings.TrimPrefix(RestPath(u), "api/"), "/")
	if ok && number != "" && secret != "" && strings.Trim(number, "0123456789") == "" {
		return true
	}
	if !strings.Contains(u.RawQuery, "token=") {
		return false
	}
	for field := range strings.SplitSeq(u.RawQuery, "&") {
		if strings.HasPrefix(field, "token=") {
			return true
		}
	}
	return false
}
