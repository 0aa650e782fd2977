package b24oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

// What a [TokenError] comes down to, for [errors.Is]. Each says who has to
// act.
var (
	// ErrReauthorize: the refresh token is no longer good. A user of the
	// portal has to install or authorize the application again, and the new
	// grant goes to [Config.Save]. If it comes back, look for a copy of the grant
	// in another Store, such as a copied database or a temporary folder of each
	// function: each refresh there uses up the token here.
	ErrReauthorize = errors.New("b24oauth: the application must be authorized again")

	// ErrMisconfigured: the application's own configuration is wrong, by the
	// authorization server's or the Store's word or found so before it was asked.
	ErrMisconfigured = errors.New("b24oauth: the application's configuration is wrong")

	// ErrPaymentRequired: the portal's subscription or licence, or the period of
	// a paid or trial application there, has ended. The stored grant may work
	// again once that is settled.
	ErrPaymentRequired = errors.New("b24oauth: the portal's subscription, or the application's period there, has ended")

	// ErrUnavailable: the authorization server or the Store could not be had.
	// It passes by itself; the package asks again, with growing pauses.
	ErrUnavailable = errors.New("b24oauth: no token can be had at present")

	// ErrOutdated, of [Config.Save]: the stored grant descends from this one, or
	// has replaced it, as when an installation is delivered once more. Nothing
	// was stored, and nothing has to be done: an event handler answers as if
	// it had been.
	ErrOutdated = errors.New("b24oauth: the grant is older than the stored one")

	// ErrContradicted, of [Config.Confirm]: the access token is another
	// application's, portal's or user's than was said of it. Where it came from is
	// not to be believed in anything else either.
	ErrContradicted = errors.New("b24oauth: the access token is not what was said of it")
)

// A TokenError says why there is no token: the authorization server issued
// none, or it could not or must not be asked. It is what a request gets
// instead of a response when its token could not be renewed, wrapped in the
// *url.Error of the http.Client.
//
// It carries no secret and no URL query. [errors.Is] tells the kind by
// ErrReauthorize, ErrMisconfigured, ErrPaymentRequired, ErrUnavailable,
// ErrNoGrant, ErrOutdated and ErrContradicted; [errors.As] also finds an *oauth2.RetrieveError
// if the server answered, whose Response has a status only.
//
// What repeats requests above a [Transport] should leave a Permanent error
// alone. Policies that ask an error for Temporary or Timeout do, such as those of
// the AWS SDK; the default ones of go-retryablehttp and resty ask nothing and
// repeat, so give them a condition of your own, and wrap the error in what
// cenkalti/backoff's Permanent returns:
//
//	client.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
//		if e, ok := errors.AsType[*b24oauth.TokenError](err); ok && e.Permanent() {
//			return false, err
//		}
//		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
//	}
type TokenError struct {
	Key         string // the grant's key; empty for a code exchange, and for a mistake that concerns no grant alone
	Code        string // the server's error code, such as invalid_grant; empty if it gave none
	Description string // the server's own words on it, shortened; often empty
	StatusCode  int    // HTTP status; 0 if there was no answer
	Err         error  // the cause, free of secrets; nil if Code says it all

	server     string        // the host that was asked; empty if none was
	kind       error         // one of the errors above, or ErrNoGrant
	hint       string        // what Code means here; empty: as a token request's
	sought     string        // what was asked for; empty: a token
	retryAfter time.Duration // how long the server asked to be left alone; 0 if it did not
}

// tokenErrorCodes are the codes of the authorization server that no
// repetition heals, in lower case. Any other code is taken as passing.
var tokenErrorCodes = map[string]struct {
	kind error
	hint string
}{
	"invalid_grant":          {ErrReauthorize, "the refresh token or code is unknown or used up, perhaps by a copy of the grant in another Store: authorize the application on the portal again and store the new grant with Config.Save"},
	"expired_token":          {ErrReauthorize, "the refresh token has expired: authorize the application on the portal again and store the new grant with Config.Save"},
	"not_installed":          {ErrReauthorize, "the application is not installed on the portal any more: install it again"},
	"wrong_client":           {ErrMisconfigured, "the authorization server does not know this client id: check Config.ClientID (BITRIX24_CLIENT_ID)"},
	"invalid_client":         {ErrMisconfigured, "check Config.ClientSecret (BITRIX24_CLIENT_SECRET) and that the application is installed on the portal"},
	"invalid_request":        {ErrMisconfigured, "the authorization server found the request malformed: check Config.TokenURL and Config.TokenMethod"},
	"unsupported_grant_type": {ErrMisconfigured, "the authorization server found the request malformed: check Config.TokenURL and Config.TokenMethod"},
	"unauthorized_client":    {ErrMisconfigured, "the application may not use this grant: check its card in Bitrix24"},
	"insufficient_scope":     {ErrMisconfigured, "Config.Scopes asks for more than the application's card allows"},
	"invalid_scope":          {ErrMisconfigured, "Config.Scopes asks for what the application's card does not know"},
	"payment_required":       {ErrPaymentRequired, "the portal's subscription, or the paid or trial period of the application there, has ended; the grant may work again after payment"},
	"verification_needed":    {ErrPaymentRequired, "the self-hosted portal has no valid licence; the grant may work again when it has"},
}

// kindOfCode classifies an error code of the authorization server.
func kindOfCode(code string) error {
	if c, ok := tokenErrorCodes[strings.ToLower(code)]; ok {
		return c.kind
	}
	return ErrUnavailable
}

// Error tells the grant, the cause and what to do about it.
func (e *TokenError) Error() string {
	var b strings.Builder
	b.WriteString("b24oauth: ")
	if e.Key != "" {
		fmt.Fprintf(&b, "grant %q: ", e.Key)
	}
	switch {
	case e.Code != "":
		fmt.Fprintf(&b, "%s answered %s", e.whom(), e.Code)
		if e.StatusCode != 0 {
			fmt.Fprintf(&b, " (status %d", e.StatusCode)
			if e.Description != "" {
				fmt.Fprintf(&b, ", %q", e.Description)
			}
			b.WriteString(")")
		}
		if e.hint != "" {
			b.WriteString(": " + e.hint)
		} else if c, ok := tokenErrorCodes[strings.ToLower(e.Code)]; ok && c.kind == e.kind {
			b.WriteString(": " + c.hint)
		} else if tokenresponse.Busy(e.StatusCode) {
			b.WriteString(": " + tokenresponse.BusyText)
		}
	case e.StatusCode != 0:
		fmt.Fprintf(&b, "no %s from %s (status %d)", cmp.Or(e.sought, "token"), e.whom(), e.StatusCode)
	case e.server != "":
		fmt.Fprintf(&b, "no answer from %s", e.whom())
	}
	if e.Err != nil {
		if e.Code != "" || e.StatusCode != 0 || e.server != "" {
			b.WriteString(": ")
		}
		b.WriteString(strings.TrimPrefix(e.Err.Error(), "b24oauth: "))
	}
	if e.retryAfter > 0 {
		fmt.Fprintf(&b, "; it wants to be left alone for %v", e.retryAfter.Round(time.Second))
	}
	return b.String()
}

func (e *TokenError) whom() string {
	return strings.TrimSpace("the authorization server " + e.server)
}

// Unwrap returns the cause.
func (e *TokenError) Unwrap() error { return e.Err }

// Timeout reports whether the cause was a timeout that passes, as net.Error does
// and *url.Error asks.
func (e *TokenError) Timeout() bool {
	var t interface{ Timeout() bool }
	return e.Temporary() && errors.As(e.Err, &t) && t.Timeout()
}

// Temporary is the opposite of Permanent, as net.Error has it and *url.Error
// asks: what repeats requests by that word repeats none for a dead grant.
func (e *TokenError) Temporary() bool { return !e.Permanent() }

// MarshalText returns what Error does, so that JSON tells the cause, and no
// more than Error would.
func (e *TokenError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Is reports whether target is the kind of this error.
func (e *TokenError) Is(target error) bool { return e.kind != nil && target == e.kind }

// As finds an [oauth2.RetrieveError], for programs that already handle that
// one. Its Response has a status and nothing else, and the status 0 if the
// server's verdict was read from the Store.
func (e *TokenError) As(target any) bool {
	re, ok := target.(**oauth2.RetrieveError)
	if !ok || e.StatusCode == 0 && e.Code == "" {
		return false
	}
	*re = &oauth2.RetrieveError{
		Response: &http.Response{
			StatusCode: e.StatusCode,
			Status:     strings.TrimSpace(fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode))),
		},
		ErrorCode:        e.Code,
		ErrorDescription: e.Description,
	}
	return true
}

// Permanent reports whether the error stays until a person acts: authorizes
// again, corrects the configuration, pays. Otherwise it passes by itself.
func (e *TokenError) Permanent() bool { return e.kind != ErrUnavailable }

// withKey returns a copy of the error for the grant under key.
func (e *TokenError) withKey(key string) *TokenError {
	c := *e
	c.Key = key
	return &c
}

// ofSource returns the error for the grant of a source that is a *TokenSource.
func (t *Transport) ofSource(e *TokenError) *TokenError {
	if src, ok := t.Source.(*TokenSource); ok {
		return e.withKey(src.key)
	}
	return e
}

// configError is a mistake in the program's own configuration: found before
// any request, and permanent.
func configError(format string, args ...any) *TokenError {
	return &TokenError{Err: fmt.Errorf(format, args...), kind: ErrMisconfigured}
}

// unavailable wraps a passing failure that is not the authorization server's.
func unavailable(format string, args ...any) *TokenError {
	return &TokenError{Err: fmt.Errorf(format, args...), kind: ErrUnavailable}
}

// failureOf returns what an error means for the next renewal of the grant
// under key.
func failureOf(err error, key string) *renew.Failure {
	e, ok := errors.AsType[*TokenError](err)
	if !ok {
		e = unavailable("%w", err)
	}
	e = e.withKey(key)
	f := &renew.Failure{Class: renew.Passing, Code: e.Code, RetryAfter: e.retryAfter, Err: e}
	switch code := strings.ToLower(e.Code); {
	case code == "invalid_grant" || code == "expired_token" || code == "not_installed":
		f.Class = renew.Refused
	case e.Permanent():
		f.Class = renew.Repairable
	}
	return f
}

// failure returns the error that callers get when there is no token.
func (s *TokenSource) failure(f *renew.Failure) error {
	if f.Class == renew.GaveUp {
		return s.gaveUp("gave up waiting: a renewal in flight goes on, and Config.Flush waits for it as long as its own context lasts", f.Err)
	}
	return s.tokenError(f)
}

// gaveUp returns the error of a caller whose context has ended. The cause that
// the caller gave that may quote anything.
func (s *TokenSource) gaveUp(what string, end error) error {
	return redact.Error(ctxend.Wrap(fmt.Sprintf("b24oauth: grant %q: %s", s.key, what), end), s.secrets()...)
}

// secrets returns what must not be told of the grant.
func (s *TokenSource) secrets() []string {
	secrets := []string{s.cfg.ClientSecret}
	if c := s.source.Known(); c != nil {
		secrets = append(secrets, c.Grant.secrets()...)
	}
	return secrets
}

// tokenError returns the failure of a job.
func (s *TokenSource) tokenError(f *renew.Failure) *TokenError {
	if te, ok := errors.AsType[*TokenError](f.Err); ok {
		return te
	}
	e := unavailable("%w", f.Err)
	store := s.cfg.store()
	switch f.Class {
	case renew.Refused:
		e = &TokenError{Code: f.Code, kind: ErrReauthorize, Err: fmt.Errorf("so it said at %s; it is asked again after a day, or by Renew(ctx, nil)", f.At.Format(time.RFC3339))}
	case renew.Missing:
		e = &TokenError{kind: ErrNoGrant, Err: fmt.Errorf("%w: authorize the application on the portal and store the grant with Config.Save", ErrNoGrant)}
		if s.cfg.Store == nil {
			e.Err = fmt.Errorf("%w; Config.Store is not set, so grants were kept in memory only and those of an earlier run are gone: set it first", e.Err)
		}
	case renew.Outdated:
		e = &TokenError{kind: ErrOutdated, Err: errors.New("the grant is older than the one there is, as one is that is delivered once more: nothing has to be done; to replace the grant there is, authorize the application again")}
	case renew.NoRefreshToken:
		e = &TokenError{kind: ErrReauthorize, Err: errors.New("the grant has no refresh token and its access token is used up: authorize the application again and store a grant with both")}
	case renew.RefusedAgain:
		e = unavailable("the portal goes on refusing tokens that were just renewed: none is renewed for that again for %v, or until Renew(ctx, nil) or Config.Save", f.RetryAfter.Round(time.Second))
	case renew.StillAmbiguous:
		e = unavailable("the portal denied access to a token that was just renewed, so it is not renewed for that again before it expires: check the application's permissions")
	case renew.LeaseTooShort:
		e = configError("the Store (%T) gives exclusivity for less than the %v that an exchange and its saving may take: lengthen its lease or shorten Config.RefreshTimeout", store, renew.NeedsExclusively(s.cfg.refreshTimeout()))
	case renew.LeaseTooLate:
		e = unavailable("exclusivity in the Store (%T) came so late that less than the %v are left of it that an exchange and its saving may take", store, renew.NeedsExclusively(s.cfg.refreshTimeout()))
	case renew.Churning:
		e = unavailable("the stored grant changes faster than it can be used: see that no other program writes under this key")
	case renew.Late:
		e = unavailable("the authorization server has not answered within %v: its answer is still waited for and is saved when it comes, so try again; Config.Flush waits for it too: %w", s.cfg.refreshTimeout(), context.DeadlineExceeded)
	case renew.Unstoppable:
		e = unavailable("the transport of Config.TokenClient (%T) does not return although its request's context has ended: replace it; should it bring new tokens after all, they are saved", s.cfg.tokenTransport())
	case renew.Overrun:
		e = unavailable("the renewal goes on for too long: the Store (%T) does not return from Load or Update, the transport of Config.TokenClient not from RoundTrip, or OnEvent not at all", store)
	case renew.Panicked:
		if p, ok := errors.AsType[*renew.PanicError](f.Err); ok {
			e = unavailable("the Store (%T) panicked: %s", store, redact.Panic(p.Value))
		}
	case renew.Vanished:
		e = unavailable("the Store (%T) or the transport of Config.TokenClient ended the renewal's goroutine", store)
	}
	return e.withKey(s.key)
}

// secretsIn returns the secrets among the parameters of a token request.
func secretsIn(sent url.Values) (secrets []string) {
	for _, name := range []string{"client_secret", "refresh_token", "code"} {
		secrets = append(secrets, sent.Get(name))
	}
	return secrets
}

// redact takes the secrets that were sent out of what the server, or the
// user's own transport, said of them.
func (e *TokenError) redact(secrets ...string) {
	e.Description = redact.Shorten(redact.Text(e.Description, secrets...))
	if redact.Text(e.Code, secrets...) != e.Code {
		e.Code = tokenresponse.UnreadableCode
	}
	e.Err = redact.Error(e.Err, secrets...)
}
