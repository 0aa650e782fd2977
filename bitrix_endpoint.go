package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/safehttp"
	"github.com/b24go/b24oauth/internal/tokenrequest"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

// Bitrix24's authorization server is OAuth 2.0 with habits of its own. A
// refresh is a GET that carries every secret in its URL, and net/http repeats
// a GET by itself when a kept-alive connection dies under it: the server then
// sees two exchanges of one refresh token and the caller one. An unknown
// client is refused with status 200. One code, expired_token, means an
// expired access token at a portal and an expired refresh token here. This
// file keeps all of that to itself: what comes out is a Grant or a TokenError.

// The token URLs of Bitrix24's two authorization servers. TokenURLCIS serves
// portals in ru, by, kz, am, az, ge, kg and uz, TokenURLGlobal all others.
const (
	TokenURLGlobal = "https://oauth.bitrix.info/oauth/token/"
	TokenURLCIS    = "https://oauth.bitrix24.tech/oauth/token/"
)

// PortalTokenURL returns the token URL of a portal itself, for
// [Config.TokenURL]: the legacy form in which the portal, at domain, passes
// the request on. It hands the client secret to the portal and need not work
// on self-hosted ones; use it only for a portal that nothing else reaches.
func PortalTokenURL(domain string) string {
	return "https://" + domain + "/oauth/token/"
}

// tokenURL returns the token URL for a grant whose authorization server names
// itself as server, a URL or a bare host. The client secret goes there, and
// server may come from a request that nobody authenticated: so it is only
// compared with the hosts that are known.
func (c *Config) tokenURL(server string) (*url.URL, error) {
	if c.TokenURL != "" {
		u, err := url.Parse(c.TokenURL)
		if err != nil || u.Hostname() == "" || u.User != nil || !address.Secure(u) {
			return nil, configError("Config.TokenURL must be an https URL with a host and without user info (http is for loopback only)")
		}
		return u, nil
	}
	return knownServer(server)
}

// knownServer returns the token URL of the one of Bitrix24's authorization
// servers that server names, the global one for "".
func knownServer(server string) (*url.URL, error) {
	if server == "" {
		return url.Parse(TokenURLGlobal)
	}
	host := server
	if strings.Contains(server, "/") {
		u, err := url.Parse(server)
		if err != nil || u.User != nil || u.Scheme != "https" {
			return nil, configError("the grant's ServerEndpoint is no https URL: set Config.TokenURL, or store a grant that names its authorization server")
		}
		host = u.Host
	}
	for _, known := range []string{TokenURLGlobal, TokenURLCIS} {
		if u, err := url.Parse(known); err == nil && strings.EqualFold(host, u.Host) {
			return u, nil
		}
	}
	return nil, configError("the authorization server %q is none of Bitrix24's, and the client secret is not sent to it: if it is the right one, set Config.TokenURL", redact.Shorten(host))
}

// trustedEndpoint returns server_endpoint as a grant may keep it: one of
// Bitrix24's servers or the configured one, "" for any other.
func (c *Config) trustedEndpoint(server string) string {
	if _, err := knownServer(server); err == nil {
		return server
	}
	own, err := url.Parse(c.TokenURL)
	u, bad := url.Parse(server)
	if err != nil || bad != nil || u.Hostname() == "" || u.User != nil || !address.Secure(u) || address.CanonicalHost(u) != address.CanonicalHost(own) {
		return ""
	}
	return server
}

// refresh exchanges the grant's refresh token and returns the grant as it is
// from then on. attempts is the number of requests that were sent.
func (c *Config) refresh(ctx context.Context, g *Grant) (next *Grant, attempts int, err error) {
	u, err := c.tokenURL(g.ServerEndpoint)
	if err != nil {
		return nil, 0, err
	}
	params := url.Values{
		"grant_type":    {"refresh_token"},
		"client_id":     {c.ClientID},
		"client_secret": {c.ClientSecret},
		"refresh_token": {g.RefreshToken},
	}
	if len(c.Scopes) > 0 {
		params.Set("scope", strings.Join(c.Scopes, ","))
	}
	fresh, attempts, terr := c.requestToken(ctx, u, params)
	if terr != nil {
		return nil, attempts, terr
	}
	if g.MemberID != "" && fresh.MemberID != "" && fresh.MemberID != g.MemberID {
		return nil, attempts, anotherPortals(g.MemberID, fresh.MemberID, u.Host)
	}
	return g.merge(fresh, c.ClientID, c.trustedEndpoint(fresh.ServerEndpoint)), attempts, nil
}

// anotherPortals refuses a pair that belongs to another portal than the grant:
// it was composed of two portals' tokens by who could read both, and the calls
// of the one would go on at the other. A renamed portal keeps its member_id.
func anotherPortals(want, got, server string) *TokenError {
	return &TokenError{kind: ErrReauthorize, server: server, StatusCode: http.StatusOK, Err: fmt.Errorf(
		"the refresh token is of the portal with the member_id %q and the grant of %q, so the pair is not used: authorize the application again on the grant's portal", redact.Shorten(got), redact.Shorten(want))}
}

// Exchange turns the code that a user's browser brought back from
// [Config.AuthCodeURL] into a grant, within the 30 seconds that a code lives.
// serverDomain is the callback's server_domain parameter; "" if there was
// none. The grant is not stored yet: hand it to [Config.Save]. It is returned
// even if its ClientEndpoint cannot be used, since the code is spent: Save says
// what is wrong with that, so that it can be corrected.
//
// The error is a *[TokenError] unless ctx ended first. An answer on its way is
// waited for up to five seconds after that, or after Config.RefreshTimeout.
func (c *Config) Exchange(ctx context.Context, code, serverDomain string) (*Grant, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if code == "" {
		return nil, configError("Exchange was called without a code: take it from the callback's code parameter")
	}
	u, err := c.tokenURL(serverDomain)
	if err != nil {
		return nil, err
	}
	params := url.Values{
		"grant_type":    {"authorization_code"},
		"client_id":     {c.ClientID},
		"client_secret": {c.ClientSecret},
		"code":          {code},
	}
	g, err := c.buy(ctx, u, params)
	if err != nil {
		return nil, err
	}
	g.ClientID = c.ClientID
	g.ServerEndpoint = c.trustedEndpoint(g.ServerEndpoint)
	if g.ServerEndpoint == "" && c.TokenURL == "" {
		g.ServerEndpoint = "https://" + u.Host + "/rest/" // it issued the tokens, so it renews them
	}
	return g, nil
}

// buyGrace is how long the answer to a code that was sent is waited for after its
// time is over or its caller has gone: the code is spent, and only the answer
// has the pair.
const buyGrace = 5 * time.Second

// buy exchanges a code, within RefreshTimeout and as long as ctx lasts, and a
// grace. A transport that ignores the end of that does not hold the caller.
func (c *Config) buy(ctx context.Context, u *url.URL, params url.Values) (*Grant, error) {
	gaveUp := func() error {
		return redact.Error(ctxend.Wrap("b24oauth: exchange of a code: gave up waiting", ctxend.Of(ctx)), secretsIn(params)...)
	}
	if ctx.Err() != nil {
		return nil, gaveUp()
	}
	type bought struct {
		grant   *Grant
		failure *TokenError
	}
	send, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	answer := make(chan bought, 1)
	go func() {
		g, _, failure := c.requestToken(send, u, params)
		answer <- bought{g, failure}
	}()
	limit := time.NewTimer(c.refreshTimeout())
	defer limit.Stop()
	select {
	case b := <-answer:
		if b.failure != nil {
			return nil, b.failure
		}
		return b.grant, nil
	case <-ctx.Done():
	case <-limit.C:
	}
	limit.Reset(buyGrace)
	select {
	case b := <-answer:
		if b.failure == nil {
			return b.grant, nil
		}
	case <-limit.C:
		cancel(context.DeadlineExceeded)
	}
	if ctx.Err() != nil {
		return nil, gaveUp()
	}
	failure := unavailable("the authorization server has not answered within %v: %w", c.refreshTimeout(), context.DeadlineExceeded)
	failure.server = u.Host
	return nil, failure
}

// AuthCodeURL returns where to send the browser of a user who is to authorize
// the application: portal is the portal's host, such as example.bitrix24.com,
// or its URL. state comes back with the callback; make it unguessable, tie it
// to the browser's session and compare it there. There is no redirect_uri: it
// stands in the application's card.
func (c *Config) AuthCodeURL(portal, state string) string {
	if !strings.Contains(portal, "://") {
		portal = "https://" + strings.TrimLeft(portal, "/")
	}
	u, err := url.Parse(portal)
	if err != nil {
		u = &url.URL{Host: strings.TrimPrefix(portal, "https://")} // comes out escaped
	}
	if u.Scheme != "http" {
		u.Scheme = "https"
	}
	q := url.Values{"client_id": {c.ClientID}, "state": {state}}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/oauth/authorize/", RawQuery: q.Encode()}).String()
}

// requestToken asks for a token, and again after a failure that passes. attempts
// is the number of requests that were sent.
func (c *Config) requestToken(ctx context.Context, u *url.URL, params url.Values) (_ *Grant, attempts int, _ *TokenError) {
	r := tokenrequest.Request{
		Client: c.TokenClient, Method: c.TokenMethod, URL: u, Params: params, Patience: c.refreshTimeout(),
		Passes: func(f *tokenresponse.Failure) bool { return kindOfFailure(f) == ErrUnavailable },
	}
	a := r.Send(ctx)
	if a.Failure != nil {
		e := endpointError(a.Failure, u.Host)
		e.redact(secretsIn(params)...)
		return nil, a.Attempts, e
	}
	g := newGrant(a.Tokens, a.Sent)
	g.dropQuoted(secretsIn(params))
	return g, a.Attempts, nil
}

// endpointError returns the error that callers get for what came of a request to
// the server.
func endpointError(f *tokenresponse.Failure, server string) *TokenError {
	return &TokenError{Code: f.Code, Description: f.Description, StatusCode: f.StatusCode, Err: f.Err, kind: kindOfFailure(f), retryAfter: f.RetryAfter, server: server}
}

// kindOfFailure says who has to act.
func kindOfFailure(f *tokenresponse.Failure) error {
	if _, strayed := errors.AsType[*safehttp.StrayedError](f.Err); strayed || errors.Is(f.Err, tokenrequest.ErrInvalid) {
		return ErrMisconfigured
	}
	return kindOfCode(f.Code)
}

// tokenTransport returns what sends token requests, for errors that name it.
func (c *Config) tokenTransport() http.RoundTripper {
	if c.TokenClient != nil {
		return c.TokenClient.Transport
	}
	return nil
}

// newGrant returns the grant in an answer to a request of that time.
func newGrant(t *tokenresponse.Tokens, sent time.Time) *Grant {
	sent = sent.Round(0) // without the monotonic clock, which stops while a machine sleeps
	g := &Grant{
		MemberID:       t.MemberID,
		ClientEndpoint: t.ClientEndpoint,
		ServerEndpoint: t.ServerEndpoint,
		AccessToken:    t.AccessToken,
		RefreshToken:   t.RefreshToken,
		Issued:         sent,
		Expiry:         sent.Add(t.Lifetime),
		Scope:          t.Scope,
		Status:         t.Status,
		UserID:         t.UserID,
	}
	if u, err := address.ParseEndpoint(g.ClientEndpoint); err == nil {
		g.ClientEndpoint = u.String()
	}
	return g
}
