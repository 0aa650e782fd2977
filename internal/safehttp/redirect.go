package safehttp

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/redact"
)

// withShortReferer returns req, or a copy of it whose Referer tells another
// host the origin alone. After a redirect http.Client writes the whole URL
// that led there, and that of a webhook is its secret.
func withShortReferer(req *http.Request) *http.Request {
	referer := req.Header.Get("Referer")
	if req.Response == nil || referer == "" {
		return req
	}
	from, err := url.Parse(referer)
	if err == nil && address.CanonicalHost(from) == address.CanonicalHost(req.URL) {
		return req
	}
	out := req.WithContext(req.Context())
	out.Header = req.Header.Clone()
	if out.Header.Del("Referer"); err == nil {
		out.Header.Set("Referer", (&url.URL{Scheme: from.Scheme, Host: from.Host, Path: "/"}).String())
	}
	return out
}

// First returns the request that redirects led to req from; req itself if
// there were none.
func First(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// WithoutToken returns req, or a copy of it without the token in its query if
// a redirect put it there.
func WithoutToken(req *http.Request, token string) *http.Request {
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

// RedirectTarget returns the host that a redirect leads to, if it is another
// than that of from and the token could go there; else "".
func RedirectTarget(resp *http.Response, from *url.URL) string {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return ""
	}
	to, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || to.Hostname() == "" || to.User != nil || !address.Secure(to) {
		return ""
	}
	if host := address.CanonicalHost(to); host != address.CanonicalHost(from) {
		return host
	}
	return ""
}

// CleanLocation takes the token out of a redirect: portals answer with the
// request's own URI, and http.Client would carry it on.
func CleanLocation(resp *http.Response, token string) {
	for i, location := range resp.Header["Location"] {
		if !redact.Quotes(location, token) {
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
		resp.Header["Location"][i] = redact.Text(base, token)
	}
}
