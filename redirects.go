package b24oauth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/redact"
)

// A RoundTripper must not follow redirects. One that has an http.Client inside
// does, and takes the token to wherever a redirect leads, in the Referer at
// least. The one that everybody has is go-retryablehttp's: it is told not to.
// Of any other it is found out afterwards.

// unfollowing returns a RoundTripper that does what base does, and follows no
// redirect if base is go-retryablehttp's.
func unfollowing(base http.RoundTripper) http.RoundTripper {
	rt, ok := base.(*retryablehttp.RoundTripper)
	if !ok {
		return base
	}
	c := rt.Client
	if c == nil {
		c = defaultRetrying()
	}
	return &retryablehttp.RoundTripper{Client: &retryablehttp.Client{
		HTTPClient:      unfollowingClient(c.HTTPClient),
		Logger:          c.Logger,
		RetryWaitMin:    c.RetryWaitMin,
		RetryWaitMax:    c.RetryWaitMax,
		RetryMax:        c.RetryMax,
		RequestLogHook:  c.RequestLogHook,
		ResponseLogHook: c.ResponseLogHook,
		CheckRetry:      c.CheckRetry,
		Backoff:         c.Backoff,
		ErrorHandler:    c.ErrorHandler,
		PrepareRetry:    c.PrepareRetry,
	}}
}

// defaultRetrying is the client of a go-retryablehttp transport that has none:
// one for all, as its connections are kept, and silent, as its log has URLs.
var defaultRetrying = sync.OnceValue(func() *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.Logger = nil
	return c
})

// unfollowingClient returns a copy of c that follows no redirect.
func unfollowingClient(c *http.Client) *http.Client {
	out := http.Client{}
	if c != nil {
		out = *c
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &out
}

// followed returns the first host beside that of sent to which a transport
// took the request by itself, "" if there is none.
func followed(resp *http.Response, sent *http.Request) (host string) {
	for hop := resp.Request; hop != nil && hop.Response != nil && hop.Response != sent.Response; hop = hop.Response.Request {
		if hop.URL.Scheme != sent.URL.Scheme || address.CanonicalHost(hop.URL) != address.CanonicalHost(sent.URL) {
			host = hop.URL.Host
		}
	}
	return host
}

// sendBy has a transport send the request. It returns a response, perhaps nil
// without an error as some do, and the host to which the transport took the
// request by itself, as followed tells.
func sendBy(base http.RoundTripper, req *http.Request) (resp *http.Response, strayed string, err error) {
	if isDefault(base) {
		req = toThisMachine(req)
	}
	resp, err = base.RoundTrip(req)
	if err != nil {
		discard(resp)
		return nil, "", err
	}
	if resp != nil {
		strayed = followed(resp, req)
	}
	return resp, strayed, nil
}

// strayedError is a transport's that followed a redirect.
type strayedError struct{ what, host, with string }

func (e *strayedError) Error() string {
	return fmt.Sprintf("%s followed a redirect to %q by itself, and %s may be known there now: replace it, and let the CheckRedirect of the http.Client in that transport return http.ErrUseLastResponse", e.what, redact.Shorten(e.host), e.with)
}

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
	if err != nil || to.Hostname() == "" || to.User != nil || !address.Secure(to) {
		return ""
	}
	if host := address.CanonicalHost(to); host != address.CanonicalHost(from) {
		return host
	}
	return ""
}

// cleanLocation takes the token out of a redirect: portals answer with the
// request's own URI, and http.Client would carry it on.
func cleanLocation(resp *http.Response, token string) {
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
