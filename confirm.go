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
	"github.com/b24go/b24oauth/internal/appinfo"
	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/safehttp"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

// AppInfo is what the authorization server says of an access token.
type AppInfo struct {
	ClientID       string    // the application that it was issued to
	MemberID       string    // the portal's identity
	ClientEndpoint string    // the base of the portal's REST methods
	UserID         int64     // the user who it acts for; 0 if the server does not say
	Scope          string    // the permissions, comma-separated
	Status         string    // as [Grant.Status]
	Version        int64     // of the application, as installed; 0 if the server does not say
	Installed      bool      // whether the installation was finished: before BX24.installFinish it is not
	Expires        time.Time // when the access token ends, by the server's clock; zero if it does not say
	PaidUntil      time.Time // when a trial or paid period ends; zero if there is none
}

// confirmBudget bounds the question of [Config.Confirm].
const confirmBudget = 10 * time.Second

// Confirm asks the authorization server whose the grant's access token is.
// Nobody vouches for what arrives at an application's addresses: every user of a
// portal can read his own tokens and the portal's application token, and post
// them mixed with others'. The server that is asked is Config.TokenURL's or the
// one of Bitrix24's that the grant names, by POST to its /rest/app.info, and
// never one that only the grant names. Nothing is stored, and nothing renewed.
//
// A nil error means that the token was issued to this application, for the
// portal that the grant's MemberID and ClientEndpoint name, and for the user in
// UserID, as far as the grant has these and the server tells the user. It says
// nothing of the refresh token, which one refresh alone proves.
//
// Any error is a *[TokenError], unless ctx ended first:
//   - [ErrContradicted]: the token is another application's, portal's or user's.
//   - a Code beside [ErrReauthorize] or [ErrPaymentRequired]: the server refuses
//     the token, as one that has expired or whose application was removed.
//   - [ErrUnavailable]: no verdict. The server cannot be had, or its answer is
//     not understood; ask again later. It is waited for ten seconds, or
//     Config.RefreshTimeout if that is shorter.
//   - [ErrMisconfigured]: the grant has no access token or names an authorization
//     server that is not trusted, Config lacks something, or its TokenURL is the
//     portal's own ([PortalTokenURL]), which would be asked about itself.
//
// It may be called concurrently. It is described in Bitrix24's documentation of
// app.info; that of the portal itself is another method.
func (c *Config) Confirm(ctx context.Context, g *Grant) (*AppInfo, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if g == nil || g.AccessToken == "" {
		return nil, configError("Confirm was called with a grant without an access token: there is nothing to ask about")
	}
	server, err := c.tokenURL(g.ServerEndpoint)
	if err != nil {
		return nil, err
	}
	portal, err := address.ParseEndpoint(g.ClientEndpoint)
	if g.ClientEndpoint != "" && err != nil {
		return nil, configError("Confirm was called with a grant that names no portal a token may be sent to: %w", redact.Error(err, c.ClientSecret, g.AccessToken, g.RefreshToken))
	}
	if portal.Host != "" && portal.Host == address.CanonicalHost(server) {
		return nil, configError("Config.TokenURL is an address of the portal itself, which cannot say whose a token is: leave it empty, or set that of the authorization server")
	}
	info, failure := c.askAppInfo(ctx, server, g.AccessToken)
	switch {
	case failure != nil && ctx.Err() != nil:
		return nil, redact.Error(ctxend.Wrap("b24oauth: Confirm: gave up waiting", ctxend.Of(ctx)), g.AccessToken, g.RefreshToken, c.ClientSecret)
	case failure != nil:
		return nil, confirmError(failure, server.Host, g.AccessToken, g.RefreshToken, c.ClientSecret)
	}
	if what := c.contradiction(g, portal, info); what != "" {
		return nil, &TokenError{kind: ErrContradicted, Err: redact.Error(errors.New(what), g.AccessToken, g.RefreshToken, c.ClientSecret)}
	}
	return &AppInfo{
		ClientID: info.ClientID, MemberID: info.MemberID, ClientEndpoint: info.ClientEndpoint, UserID: info.UserID,
		Scope: info.Scope, Status: info.Status, Version: info.Version, Installed: info.Installed,
		Expires: info.Expires, PaidUntil: info.PaidUntil,
	}, nil
}

// askAppInfo asks the server about a token, once.
func (c *Config) askAppInfo(ctx context.Context, server *url.URL, token string) (*appinfo.Info, *tokenresponse.Failure) {
	ctx, cancel := context.WithTimeout(ctx, min(confirmBudget, c.refreshTimeout()))
	defer cancel()
	redacted, _ := redact.Trace(ctx)
	u := url.URL{Scheme: server.Scheme, Host: server.Host, Path: "/rest/app.info"}
	req, err := http.NewRequestWithContext(redacted, http.MethodPost, u.String(), strings.NewReader(url.Values{"auth": {token}}.Encode()))
	if err != nil {
		return nil, &tokenresponse.Failure{Err: errors.New("the question cannot be built: check Config.TokenURL")}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := safehttp.Once(c.TokenClient, "Config.TokenClient", "the access token").Do(req)
	if err != nil {
		return nil, &tokenresponse.Failure{Err: redact.WithoutURL(err)}
	}
	return appinfo.Read(resp)
}

// contradiction says in what the server's word differs from the grant; "" if in
// nothing.
func (c *Config) contradiction(g *Grant, portal address.Portal, is *appinfo.Info) string {
	var differs []string
	differ := func(what string, got, want any) {
		differs = append(differs, fmt.Sprintf("%s is %v and not %v", what, got, want))
	}
	if is.ClientID != c.ClientID {
		differ("client_id", fmt.Sprintf("%q", redact.Shorten(is.ClientID)), fmt.Sprintf("%q", c.ClientID))
	}
	if g.MemberID != "" && is.MemberID != g.MemberID {
		differ("member_id", fmt.Sprintf("%q", redact.Shorten(is.MemberID)), fmt.Sprintf("%q", redact.Shorten(g.MemberID)))
	}
	if at, err := address.ParseEndpoint(is.ClientEndpoint); portal.Host != "" && (err != nil || at.Host != portal.Host) {
		differ("portal", redact.Host(at.Host), redact.Host(portal.Host))
	}
	if g.UserID != 0 && is.UserID != 0 && is.UserID != g.UserID {
		differ("user_id", is.UserID, g.UserID)
	}
	if len(differs) == 0 {
		return ""
	}
	return "the access token is not what was said of it: its " + strings.Join(differs, ", its ") + ": use nothing of where it came from"
}

// refusals are the codes with which app.info refuses a token. Any other code is
// no verdict.
var refusals = map[string]struct {
	kind error
	hint string
}{
	"expired_token":    {ErrReauthorize, "the access token has expired, so nobody can say whose it was"},
	"invalid_token":    {ErrReauthorize, "the access token is unknown, so it is nobody's"},
	"no_auth_found":    {ErrReauthorize, "the access token is unknown, so it is nobody's"},
	"not_installed":    {ErrReauthorize, "the application is not installed on the portal any more"},
	"invalid_grant":    {ErrReauthorize, "the access token is unknown, so it is nobody's"},
	"payment_required": {ErrPaymentRequired, tokenErrorCodes["payment_required"].hint},
}

// confirmError returns the error that callers of Confirm get for an answer that
// does not say whose the token is.
func confirmError(f *tokenresponse.Failure, server string, secrets ...string) *TokenError {
	e := &TokenError{Code: f.Code, Description: f.Description, StatusCode: f.StatusCode, Err: f.Err, kind: ErrUnavailable, retryAfter: f.RetryAfter, server: server, sought: "word on the access token"}
	if r, ok := refusals[strings.ToLower(f.Code)]; ok && !tokenresponse.Busy(f.StatusCode) {
		e.kind, e.hint = r.kind, r.hint
	} else if kindOfFailure(f) == ErrMisconfigured && f.Code == "" {
		e.kind = ErrMisconfigured
	}
	e.redact(secrets...)
	return e
}
