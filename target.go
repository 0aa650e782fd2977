package b24oauth

import (
	"net/url"
	"path"
	"slices"
	"strings"
)

// restPath returns the path of u below /rest/, cleaned of doubled slashes,
// which Bitrix24's own JavaScript SDK sends. "" if it is not below /rest/.
func restPath(u *url.URL) string {
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

// isV3 reports whether u is a method of REST version 3.
func isV3(u *url.URL) bool {
	return strings.HasPrefix(restPath(u), "api/")
}

// bearsOwnSecret reports whether the request needs no token because its URL
// is the secret: an incoming webhook, whose path is /rest/[api/]number/secret/,
// or a signed file link, which has a token field in its query.
func bearsOwnSecret(u *url.URL) bool {
	number, secret, ok := strings.Cut(strings.TrimPrefix(restPath(u), "api/"), "/")
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

// isPortal reports whether the grant's token may go to u: to the portal's
// present address, or to a former one, which stands for the present.
func (sn *snapshot) isPortal(u *url.URL) bool {
	if !secureURL(u) {
		return false
	}
	host := canonicalHost(u)
	return host == sn.host && u.Scheme == sn.scheme || slices.Contains(sn.grant.FormerHosts, host)
}
