package b24oauth

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"

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
// one for all, as its connections are kept.
var defaultRetrying = sync.OnceValue(retryablehttp.NewClient)

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
		if hop.URL.Scheme != sent.URL.Scheme || canonicalHost(hop.URL) != canonicalHost(sent.URL) {
			host = hop.URL.Host
		}
	}
	return host
}

// strayedError is a transport's that followed a redirect.
type strayedError struct{ what, host, with string }

func (e *strayedError) Error() string {
	return fmt.Sprintf("%s followed a redirect to %q by itself, where %s does not belong: let the CheckRedirect of its http.Client return http.ErrUseLastResponse", e.what, shorten(e.host), e.with)
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
