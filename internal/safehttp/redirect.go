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
	if req.Response == nil {
		return req
	}
	out := req
	for name, values := range req.Header {
		if !strings.EqualFold(name, "Referer") {
			continue
		}
		if out == req {
			out = req.WithContext(req.Context())
			out.Header = req.Header.Clone()
		}
		delete(out.Header, name)
		for _, referer := range values {
			if short := shortened(referer, req.URL); short != "" {
				out.Header[name] = append(out.Header[name], short)
			}
		}
	}
	return out
}

// shortened returns of a Referer what the host of to may know: its origin, or
// nothing if it is no URL, and all of it if it is of the same host.
func shortened(referer string, to *url.URL) string {
	from, err := url.Parse(referer)
	switch {
	case err != nil || referer == "":
		return ""
	case address.CanonicalHost(from) == address.CanonicalHost(to):
		return referer
	}
	return (&url.URL{Scheme: from.Scheme, Host: from.Host, Path: "/"}).String()
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

// CleanHeader takes the token out of an answer's header: portals answer with
// the request's own URI, in a Location that http.Client would carry on, or
// under any other name, and callers log and pass on headers as they come.
func CleanHeader(resp *http.Response, token string) {
	cleaned := false
	for name, values := range resp.Header {
		for i, value := range values {
			if len(value) < len(token) || !redact.Quotes(value, token) {
				continue
			}
			if !cleaned { // a transport may give the same map to others
				cleaned, resp.Header = true, resp.Header.Clone()
			}
			resp.Header[name][i] = withoutToken(value, token)
		}
	}
}

// withoutToken returns what may be a URL, or have one in it, without the token.
func withoutToken(value, token string) string {
	base, query, ok := strings.Cut(value, "?")
	if ok {
		query, fragment, hasFragment := strings.Cut(query, "#")
		if query = authparam.RemoveToken(query, token); query != "" {
			base += "?" + query
		}
		if hasFragment {
			base += "#" + fragment
		}
	}
	return redact.Text(base, token)
}
