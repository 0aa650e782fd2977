package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// A program that follows a redirect to the portal itself has no token there, and one
// that follows the redirect of a renamed portal sends its POST again as a GET without
// a body. So a redirect to a REST method leads back through the proxy, and that of a
// portal which Transport could not follow is an answer to wait for.

var errMoved = errors.New("the portal has moved to another address, which the request could not follow: send it again")

// redirect changes the Location of an answer so that a program can follow it, and
// returns errMoved if it should not.
func (h *handler) redirect(resp *http.Response, c call) error {
	to, err := resp.Location()
	if err != nil {
		return nil // there is none, or it is no address
	}
	if method, ok := h.methodOf(resp.Request.Context(), to, c); ok {
		back := url.URL{Path: prefix + method, RawQuery: to.RawQuery}
		resp.Header.Set("Location", back.String())
		return nil
	}
	if to.Path == c.base.Path+c.method && resp.StatusCode/100 == 3 {
		return errMoved // another host has the same method
	}
	if given, err := url.Parse(resp.Header.Get("Location")); err == nil && !given.IsAbs() {
		resp.Header.Set("Location", to.String()) // or the program would take it for the proxy's
	}
	return nil
}

// methodOf returns the REST method that an address is of, at the portal where the
// request was addressed or where Transport has followed it to since then.
func (h *handler) methodOf(ctx context.Context, to *url.URL, c call) (method string, ok bool) {
	if method, ok := strings.CutPrefix(to.Path, c.base.Path); ok && authority(to) == authority(c.base) {
		return method, true
	}
	now, err := h.source.Endpoint(ctx)
	if err != nil || authority(to) != authority(now) {
		return "", false
	}
	method, ok = strings.CutPrefix(to.Path, now.Path)
	return method, ok && method != c.method // which was not followed, since it came back
}

// authority is the host and port of an address, the same for http and https: servers
// behind one that ends TLS answer with a scheme or a port that is not theirs outside.
func authority(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || port == "80" || port == "443" {
		return host
	}
	return host + ":" + port
}
