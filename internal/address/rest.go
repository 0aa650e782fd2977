package address

import (
	"net/url"
	"path"
	"strings"
)

// Method returns the path of u below base, cleaned of doubled slashes, which
// Bitrix24's own JavaScript SDK sends. "" if it is not below base.
func Method(u *url.URL, base string) string {
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
	rest, ok := strings.CutPrefix(path.Clean(p), base)
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

// BearsOwnSecret reports whether the request needs no token because its URL
// is the secret: an incoming webhook, whose path below base is
// [api/]number/secret/, or a signed file link, which has a token field in its
// query.
func BearsOwnSecret(u *url.URL, base string) bool {
	if isWebhook(Method(u, base)) {
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
