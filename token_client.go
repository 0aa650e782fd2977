package b24oauth

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// tokenClient returns the client for token requests: the user's or our own,
// made unable to send a request twice or to follow a redirect.
func (c *Config) tokenClient() *http.Client {
	client := http.Client{}
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	base := client.Transport
	switch {
	case base == nil && c.HTTPClient == nil:
		base = ownTransport
	case base == nil:
		base = http.DefaultTransport
	}
	client.Transport = onceTransport{base}
	return &client
}

// ownTransport keeps no connection, so that none can be found dead.
var ownTransport = &http.Transport{
	Proxy:               http.ProxyFromEnvironment, // never for loopback
	DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	TLSHandshakeTimeout: 10 * time.Second,
	DisableKeepAlives:   true,
	ForceAttemptHTTP2:   true,
}

// onceTransport sends each request once. net/http takes a request for
// repeatable if it has no body or can get it again; one with an empty body
// and no GetBody is neither, and looks the same on the wire. A redirect loses
// its Location, which http.Client would follow, or quote if it cannot. A panic
// of the user's transport is an error like any other: the exchange it comes
// from is on a goroutine of ours.
type onceTransport struct{ base http.RoundTripper }

func (t onceTransport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, errors.New("Config.HTTPClient panicked: "+panicText(v))
		}
	}()
	once := req.WithContext(req.Context())
	if once.Body == nil || once.Body == http.NoBody {
		once.Body = emptyBody{}
	}
	once.GetBody = nil
	resp, err = t.base.RoundTrip(once)
	if resp != nil {
		resp.Header.Del("Location")
	}
	return resp, err
}

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }
