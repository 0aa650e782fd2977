package b24oauth

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/b24go/b24oauth/internal/authparam"
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

// firstOf returns the request that redirects led to req from; req itself if
// there were none.
func firstOf(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// withoutToken returns req, or a copy of it without the token in its query if
// a redirect put it there.
func withoutToken(req *http.Request, token string) *http.Request {
	if req.Response == nil {
		return req
	}
	query := authparam.RemoveToken(req.URL.RawQuery, token)
	if query == req.URL.RawQuery {
		return req
	}
	out := req.WithContext(req.Context())
	u := *req.URL
	u.RawQuery = query
	out.URL = &u
	return out
}

// redirectTarget returns the host that a redirect leads to, if it is another
// than that of from and the token could go there; else "".
func redirectTarget(resp *http.Response, from *url.URL) string {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return ""
	}
	to, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || to.Hostname() == "" || to.User != nil || !secureURL(to) {
		return ""
	}
	if host := canonicalHost(to); host != canonicalHost(from) {
		return host
	}
	return ""
}

// cleanLocation takes the token out of a redirect: portals answer with the
// request's own URI, and http.Client would carry it on.
func cleanLocation(resp *http.Response, token string) {
	for i, location := range resp.Header["Location"] {
		if !quotes(location, token) {
			continue
		}
		base, query, ok := strings.Cut(location, "?")
		if ok {
			query, fragment, hasFragment := strings.Cut(query, "#")
			if query = authparam.RemoveToken(query, token); query != "" {
				base += "?" + query
			}
			if hasFragment {
				base += "#" + fragment
			}
		}
		resp.Header["Location"][i] = redactText(base, token)
	}
}
