package safehttp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth/internal/redact"
)

// Once returns a client for requests that spend what they carry: the user's,
// or our own if that is nil, made unable to send a request twice or to follow
// a redirect. Its errors call the user's client name, and secret what a host
// that its transport strayed to may know.
func Once(user *http.Client, name, secret string) *http.Client {
	client := http.Client{Transport: ownTransport}
	if user != nil {
		client = *withoutRetries(user)
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	if tr, ok := client.Transport.(*http.Transport); ok && tr.ResponseHeaderTimeout > 0 {
		own := tr.Clone()
		own.ResponseHeaderTimeout, own.DisableKeepAlives = 0, true
		client.Transport = own
	}
	client.Timeout = 0 // an answer thrown away is lost; the request's context bounds the waiting
	client.Transport = onceTransport{client.Transport, name, secret}
	return &client
}

// withoutRetries returns the client inside of go-retryablehttp's transport, if
// that is what c has: it repeats requests, of which each is one exchange, and
// logs their URLs.
func withoutRetries(c *http.Client) *http.Client {
	rt, ok := c.Transport.(*retryablehttp.RoundTripper)
	if !ok {
		return c
	}
	inner := http.Client{}
	if rt.Client != nil && rt.Client.HTTPClient != nil {
		inner = *rt.Client.HTTPClient
	}
	return &inner
}

// ownTransport keeps no connection, so that none can be found dead.
var ownTransport = &http.Transport{
	Proxy:               proxy,
	DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	TLSHandshakeTimeout: 10 * time.Second,
	DisableKeepAlives:   true,
	DisableCompression:  true, // the end of a compressed answer would have to be waited for
	ForceAttemptHTTP2:   true,
}

// onceTransport sends each request once. net/http takes a request for
// repeatable if it has no body or can get it again; one with an empty body
// and no GetBody is neither, and looks the same on the wire. A redirect loses
// its Location, which http.Client would follow, or quote if it cannot. A panic
// of the user's transport is an error like any other: the exchange it comes
// from is on a goroutine of ours.
type onceTransport struct {
	base         http.RoundTripper
	name, secret string
}

func (t onceTransport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, errors.New(t.name+" panicked: "+redact.Panic(v))
		}
	}()
	once := req.WithContext(req.Context())
	if once.Body == nil || once.Body == http.NoBody {
		once.Body = emptyBody{}
	}
	once.GetBody = nil
	resp, strayed, err := Send(t.base, once)
	if err != nil || resp == nil {
		return nil, err
	}
	if strayed != "" {
		Discard(resp)
		return nil, &StrayedError{fmt.Sprintf("the Transport of %s (%T)", t.name, t.base), strayed, t.secret}
	}
	resp.Header.Del("Location")
	return resp, nil
}

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }
