package safehttp

import (
	"net/http"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"
)

// longestChain is more transports than anybody puts over one another.
const longestChain = 16

// LeadsTo reports whether a transport is one of those that is looks for, or
// sends its requests by way of one. It looks into oauth2's transport and
// go-retryablehttp's, and into no other, as it cannot. A chain without an end,
// which a transport over itself makes, leads everywhere. Nil stands for
// http.DefaultTransport.
func LeadsTo(rt http.RoundTripper, is func(http.RoundTripper) bool) bool {
	for range longestChain {
		if rt == nil {
			rt = http.DefaultTransport
		}
		if is(rt) {
			return true
		}
		switch over := rt.(type) {
		case *oauth2.Transport:
			if over == nil {
				return false
			}
			rt = over.Base
		case *retryablehttp.RoundTripper:
			if over == nil || over.Client == nil || over.Client.HTTPClient == nil {
				return false // it makes its own
			}
			rt = over.Client.HTTPClient.Transport
		default:
			return false
		}
	}
	return true
}
