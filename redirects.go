package b24oauth

import (
	"net/http"
	"net/url"

	"github.com/hashicorp/go-retryablehttp"
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
		c = retryablehttp.NewClient()
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

// unfollowingClient returns a copy of c that follows no redirect.
func unfollowingClient(c *http.Client) *http.Client {
	out := http.Client{}
	if c != nil {
		out = *c
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &out
}

// followed returns the host that a transport took the request to by itself,
// "" if it did not.
func followed(resp *http.Response, sent *http.Request) string {
	last := resp.Request
	if last == nil || last.URL == nil || last.Response == nil || last.Response == sent.Response {
		return ""
	}
	if host := canonicalHost(last.URL); host != canonicalHost(sent.URL) {
		return host
	}
	return ""
}

// withOwnReferer returns req, or a copy of it whose Referer does not tell
// another host more than that it was sent here. http.Client writes the whole
// URL of the request before a redirect, of a webhook, whose path is its
// secret, too.
func withOwnReferer(req *http.Request) *http.Request {
	referer := req.Header.Get("Referer")
	if req.Response == nil || referer == "" {
		return req
	}
	from, err := url.Parse(referer)
	if err == nil && canonicalHost(from) == canonicalHost(req.URL) {
		return req
	}
	out := req.WithContext(req.Context())
	out.Header = req.Header.Clone()
	if out.Header.Del("Referer"); err == nil {
		out.Header.Set("Referer", (&url.URL{Scheme: from.Scheme, Host: from.Host, Path: "/"}).String())
	}
	return out
}
