package b24oauth

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/resterror"
	"github.com/b24go/b24oauth/internal/safehttp"
)

// Transport is an [http.RoundTripper] that puts the access token of Source
// into each request to the grant's portal, as Bitrix24's auth parameter, and
// repeats a request once after the portal refused its token.
//
// The token goes to the portal that the grant names and nowhere else, over
// https (plain http on loopback only). Any other request passes as it came:
// one to another host, an incoming webhook, whose path is its secret, and a
// signed file link, whose signature covers the auth parameter; only the
// Referer that an http.Client writes after a redirect to another host is cut
// to its origin, as browsers do. A request to an address that the portal had
// before it was renamed goes to its present one.
//
// A request is repeated only if its body can be had again, from
// Request.GetBody or because nobody has read it; otherwise the portal's
// refusal reaches the caller, whole, and the next request has the new token.
// If there is no token to be had, RoundTrip returns a *[TokenError], and if
// the request's context ends while it waits for one, the context's error.
//
// Transport keeps to the contract of RoundTripper: it does not change the
// request, which is also the Response's Request, and its body is closed once.
// It is safe for concurrent use as long as its fields are not changed.
type Transport struct {
	// Source supplies the tokens. A *TokenSource renews them and makes
	// repetition possible. Any other source only supplies the token, which
	// goes to the host of the request, unless a redirect led there, or to the
	// portal that the token names as Extra("client_endpoint").
	Source oauth2.TokenSource

	// Base sends the requests. Nil: http.DefaultTransport. It sees the token.
	// It must not follow redirects, which only a RoundTripper with an
	// http.Client inside does: that one takes the token along, and what it
	// says to have found elsewhere is an error here. go-retryablehttp's is used
	// by way of a copy that follows none; it still logs each URL, token
	// included, unless its client's Logger is nil.
	Base http.RoundTripper

	// Placement says where the token goes. Zero: PlaceAuto.
	Placement Placement
}

var _ http.RoundTripper = (*Transport)(nil)

// Placement says in which part of a request the token travels.
type Placement int

const (
	// PlaceAuto puts the token where the portal looks last, so that no other
	// value wins over it: into the body of a POST that carries a form or a
	// JSON object, else into the query. Methods under /rest/api/ (version 3)
	// get it in the query always.
	PlaceAuto Placement = iota
	// PlaceQuery puts it into the query always. An auth field in a form or
	// JSON body then wins over it.
	PlaceQuery
	// PlaceHeader sends it as Authorization: Bearer, which self-hosted
	// portals accept unless their web server drops the header.
	PlaceHeader
)

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	src, renewable := t.Source.(*TokenSource)
	switch {
	case t.Source == nil || renewable && src == nil:
		outgoing.CloseBody(req)
		return nil, configError("Transport.Source is nil: set it to Config.TokenSource(key), or to another oauth2.TokenSource")
	case req.URL == nil:
		outgoing.CloseBody(req)
		return nil, errors.New("b24oauth: the request has no URL")
	case address.BearsOwnSecret(req.URL):
		return t.send(req, req, "")
	case !renewable:
		return t.placeOnly(req)
	}
	sn, err := src.known(req.Context())
	if err == nil && !sn.isPortal(req.URL) && sn.host != "" {
		return t.passThrough(req, sn.grant.AccessToken)
	}
	if err == nil {
		sn, err = src.current(req.Context())
	}
	if err == nil && sn.host == "" {
		err = configError("the grant names no portal: store one whose ClientEndpoint is the base of the portal's REST methods").withKey(src.key)
	}
	if err != nil {
		outgoing.CloseBody(req)
		return nil, err
	}
	if !sn.isPortal(req.URL) {
		return t.passThrough(req, sn.grant.AccessToken)
	}
	c := &call{t: t, src: src, req: req, out: outgoing.New(req, t.placement())}
	defer c.out.Finish()
	return c.do(sn)
}

// placeOnly serves a source that only supplies tokens.
func (t *Transport) placeOnly(req *http.Request) (*http.Response, error) {
	if !address.Secure(req.URL) {
		return t.send(req, req, "")
	}
	token, err := t.Source.Token()
	if err == nil && (token == nil || token.AccessToken == "") {
		err = configError("Transport.Source (%T) returned a token without AccessToken", t.Source)
	}
	if err != nil {
		outgoing.CloseBody(req)
		return nil, err
	}
	home := safehttp.First(req).URL
	if named, ok := token.Extra("client_endpoint").(string); ok && named != "" {
		if home, err = address.ParseEndpoint(named); err != nil {
			outgoing.CloseBody(req)
			return nil, configError("the token of Transport.Source (%T) names no portal that it may be sent to: %w", t.Source, err)
		}
	}
	host := address.CanonicalHost(home)
	if req.URL.Scheme != home.Scheme || address.CanonicalHost(req.URL) != host {
		return t.passThrough(req, token.AccessToken)
	}
	r := outgoing.New(req, t.placement())
	defer r.Finish()
	out, err := r.Prepare(token.AccessToken, home.Scheme, host)
	if err != nil {
		return nil, err
	}
	resp, err := t.send(out, req, token.AccessToken)
	if err != nil {
		return nil, err
	}
	safehttp.CleanLocation(resp, token.AccessToken)
	return resp, nil
}

// passThrough sends a request that gets no token. If a redirect brought it
// here and ours with it, ours is taken out.
func (t *Transport) passThrough(req *http.Request, token string) (*http.Response, error) {
	return t.send(safehttp.WithoutToken(req, token), req, "")
}

// CloseIdleConnections closes the idle connections of Base, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

func (t *Transport) placement() outgoing.Placement {
	switch t.Placement {
	case PlaceAuto:
		return outgoing.Auto
	case PlaceHeader:
		return outgoing.Header
	}
	return outgoing.Query
}

// send hands out, which stands for the caller's req and carries token if that
// is not empty, to Base.
func (t *Transport) send(out, req *http.Request, token string) (*http.Response, error) {
	resp, strayed, err := safehttp.Send(t.base(), out)
	if err != nil {
		return nil, redact.Error(err, token)
	}
	if resp == nil {
		return nil, fmt.Errorf("b24oauth: Transport.Base (%T) returned neither a response nor an error", t.base())
	}
	if strayed != "" && token != "" {
		safehttp.Discard(resp)
		e := configError("%w, or put it above Transport", &safehttp.StrayedError{Transport: fmt.Sprintf("Transport.Base (%T)", t.base()), Host: strayed, Secret: "the access token"})
		if src, ok := t.Source.(*TokenSource); ok {
			e = e.withKey(src.key)
		}
		return nil, e
	}
	resp.Request = req
	return resp, nil
}

// call is one request to the portal.
type call struct {
	t   *Transport
	src *TokenSource
	req *http.Request // the caller's
	out outgoing.Request

	replayed, moved bool // each happens once at most
}

// do sends the request, again after a refusal, and again after the portal was
// found renamed.
func (c *call) do(sn *snapshot) (*http.Response, error) {
	vague := false
	for {
		out, err := c.out.Prepare(sn.grant.AccessToken, sn.scheme, sn.host)
		if err != nil {
			return nil, err
		}
		resp, err := c.t.send(out, c.req, sn.grant.AccessToken)
		if err != nil {
			return nil, err
		}
		next := (*snapshot)(nil)
		switch status := resp.StatusCode; {
		case status >= 200 && status < 300:
			sn.accept()
			if vague {
				sn.onTrial.Store(false) // the renewal did help
			}
		case status >= 300 && status < 400:
			next = c.followRename(resp, sn, out)
		case status >= 400 && status < 500:
			verdict, code := resterror.Inspect(resp)
			vague = verdict == resterror.Ambiguous
			if vague && sn.onTrial.Load() {
				sn.denied.Store(true) // a new token did not help, so it was not the token
			}
			if verdict != resterror.Other && !c.replayed {
				next, err = c.renew(sn, vague, code)
			}
		}
		if next == nil && err == nil {
			return resp, nil
		}
		safehttp.Discard(resp)
		if err != nil {
			return nil, err
		}
		sn = next
	}
}

// renew has a refused token renewed and returns what to repeat the request
// with; nil if the refusal is to reach the caller.
func (c *call) renew(sn *snapshot, vague bool, code string) (*snapshot, error) {
	ctx := c.req.Context()
	next, err := c.src.get(ctx, reason{refused: sn.grant.AccessToken, vague: vague})
	if vague && err == nil {
		next.onTrial.Store(true)
	}
	var te *TokenError
	switch {
	case errors.As(err, &te) && te.keep401:
		return nil, nil
	case !c.out.Again():
		return nil, nil
	case err != nil:
		return nil, err
	case !next.isPortal(c.req.URL):
		return nil, nil // the grant is another portal's now
	}
	c.replayed = true
	c.src.cfg.emit(ctx, Event{Kind: EventReplayed, Key: c.src.key, Token: tokenLabel(next.grant.AccessToken), Code: code})
	return next, nil
}

// followRename answers a redirect from the portal to another host. Only the
// authorization server can say that the portal has moved, and where to; if it
// does, the request is repeated there with its method and body, which
// http.Client would drop. Otherwise the redirect is the caller's, without our
// token.
func (c *call) followRename(resp *http.Response, sn *snapshot, out *http.Request) *snapshot {
	target := safehttp.RedirectTarget(resp, out.URL)
	safehttp.CleanLocation(resp, sn.grant.AccessToken)
	if target == "" || c.moved {
		return nil
	}
	next, err := c.src.get(c.req.Context(), reason{refused: sn.grant.AccessToken, host: target})
	if err != nil || next.host == sn.host || !next.isPortal(c.req.URL) || !c.out.Again() {
		return nil
	}
	c.moved = true
	return next
}

// String names the grant of a source that is a *TokenSource, and the type of
// any other.
func (t *Transport) String() string {
	if t == nil {
		return "<nil>"
	}
	source := fmt.Sprintf("%T", t.Source)
	if s, ok := t.Source.(*TokenSource); ok {
		source = s.String()
	}
	return fmt.Sprintf("Transport{source=%s base=%T}", source, t.base())
}

// Format implements [fmt.Formatter] for every verb, without the tokens.
func (t *Transport) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// LogValue implements [slog.LogValuer], without the tokens.
func (t *Transport) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is always an error, since a source may have exported fields
// with a token in them.
func (t *Transport) MarshalText() ([]byte, error) {
	return nil, errors.New("b24oauth: a Transport is not marshalled: its Source can contain tokens")
}
