// Package safehttp hands requests with secrets in them to somebody's
// transport.
//
// A RoundTripper must not follow redirects. One that has an http.Client inside
// does, and takes the token to wherever a redirect leads, in the Referer at
// least. The one that everybody has is go-retryablehttp's: it is told not to.
// Of any other it is found out afterwards.
package safehttp

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/redact"
)

// Send has a transport send the request, whose Referer tells another host no
// more than an origin, and follow no redirect if it is go-retryablehttp's. It
// returns a response, perhaps nil without an error as some do, and the first
// host beside the request's to which the transport took it by itself, "" if
// there is none.
func Send(base http.RoundTripper, req *http.Request) (resp *http.Response, strayed string, err error) {
	req = withShortReferer(req)
	if isDefault(base) {
		req = toThisMachine(req)
	}
	resp, err = unfollowing(base).RoundTrip(req)
	if err != nil {
		Discard(resp)
		return nil, "", err
	}
	if resp != nil {
		strayed = followed(resp, req)
	}
	return resp, strayed, nil
}

// Discard closes a response that nobody will see, as far as there is one.
func Discard(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
}

// StrayedError is a transport's that followed a redirect.
type StrayedError struct {
	Transport string // as the user knows it
	Host      string // where it went
	Secret    string // what may be known there
}

func (e *StrayedError) Error() string {
	return fmt.Sprintf("%s followed a redirect to the host %s by itself, and %s may be known there now: replace it, and let the CheckRedirect of the http.Client in that transport return http.ErrUseLastResponse", e.Transport, redact.Host(e.Host), e.Secret)
}

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
