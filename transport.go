package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
	"github.com/b24go/b24oauth/internal/safehttp"
)

// Transport is an [http.RoundTripper] that puts the access token of Source
// into each request to the grant's portal, as Bitrix24's auth parameter, and
// repeats a request once after the portal refused its token.
//
// The token goes to the portal that the grant names and nowhere else, over
// https (plain http on loopback only), and under that portal's Host, whatever
// Request.Host or URL.Opaque says; [Placement] says into which part of a
// request. Any other request passes as it came: one to another host, which is an
// [EventTokenWithheld] if the portal seems to be meant, an incoming webhook,
// whose path (/rest/1/…/) or query (aplogin and ap) is its secret, and a signed
// file link (token= in its query), whose signature covers the auth parameter;
// only the Referer that an http.Client writes after a redirect to another host is
// cut to its origin, as browsers do. One to the portal over http, but for
// loopback, is an error and not sent, unless the grant cannot be read in time to
// tell. A request to an address that the portal had
// before it was renamed goes to its present one. Until the grant is known, any
// request over https but a webhook's or a signed link's waits for it, and fails
// if there is none: where the token may go is not known before.
//
// Bodies are streamed, but for those of 64 KiB at most that take up the token
// and can be had again: they are sent as net/http sends what is in memory, in one
// write with the header. A request is repeated only if its body can be had
// again, from Request.GetBody, which http.NewRequest sets for the usual
// readers, or because nobody has read it; otherwise the portal's refusal
// reaches the caller, whole, and the next request has the new token. A body in
// memory without GetBody counts as read once an http.Transport has it, unless the
// request says Expect.
// If there is no token to be had, RoundTrip returns a *[TokenError]; if the
// request's context ends while it waits for one, a net.Error with the context's
// error and its cause within, as net/http does.
//
// Transport keeps to the contract of RoundTripper: it does not change the
// request, which is also the Response's Request, and its body is closed once.
// It is safe for concurrent use as long as its fields are not changed.
type Transport struct {
	// Source supplies the tokens. A *TokenSource renews them and makes
	// repetition possible. Any other source, one around a *TokenSource too
	// (logged once), only supplies the token, which goes to the host of the
	// request, unless a redirect led there, or to the portal that the token names
	// as Extra("client_endpoint").
	Source oauth2.TokenSource

	// Base sends the requests. Nil: http.DefaultTransport. It sees the token.
	// It must not follow redirects, which only a RoundTripper with an
	// http.Client inside does: that one takes the token along, and what it
	// says to have found elsewhere is an error here. go-retryablehttp's is used
	// by way of a copy that follows none; it still logs each URL, token
	// included, unless its client's Logger is nil. It must not lead to another
	// Transport, whose grant would act instead: that is an error if it is one,
	// or oauth2's or go-retryablehttp's over one, and cannot be seen if it is
	// inside of any other.
	Base http.RoundTripper

	// Placement says where the token goes. Zero: PlaceAuto.
	Placement Placement
}

var _ http.RoundTripper = (*Transport)(nil)

// Placement says in which part of a request the token travels.
type Placement int

const (
	// PlaceAuto puts the token where the portal looks last, so that no other
	// value wins over it:
	//
	//	a POST with a form          the form's first field
	//	a POST with a JSON object   the object's last key, which wins
	//	anything else               the query's first field; the rest of the
	//	                            query stays byte for byte
	//
	// First, since PHP drops fields past its max_input_vars (1000 by default).
	// A request with a compressed or multipart body and every method under
	// /rest/api/ (version 3) is anything else.
	//
	// A portal that answers 401 NO_AUTH_FOUND may have been unable to read the
	// body, and the token with it: JSON that is no UTF-8 or has a comma or a
	// bracket too many, or a form larger than the post_max_size of its PHP. A
	// line at level Debug says so.
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
	case safehttp.LeadsTo(t.Base, isTransport):
		outgoing.CloseBody(req)
		return nil, configError("Transport.Base (%T) is, or leads to, a Transport: the grant of that one would act instead of this one's. Give each http.Client one Transport, and Base what sends the requests", t.base())
	case req.URL == nil:
		outgoing.CloseBody(req)
		return nil, errors.New("b24oauth: the request has no URL")
	case address.BearsOwnSecret(req.URL, address.RestPath):
		if renewable {
			src.tellTokenField(req)
		}
		return t.send(req, req, "")
	case !renewable:
		return t.placeOnly(req)
	case !address.Secure(req.URL):
		return t.sendInTheClear(src, req)
	}
	known, err := src.known(req.Context())
	if err == nil && !known.Grant.isPortal(req.URL) && known.Grant.portal().Host != "" {
		return t.passBy(src, known.Grant, req)
	}
	cur := known
	if err == nil {
		cur, err = src.fresh(req.Context())
	}
	if err == nil && cur.Grant.portal().Host == "" {
		err = src.noPortal()
	}
	if err != nil {
		outgoing.CloseBody(req)
		return nil, err
	}
	switch {
	case cur != known && !cur.Grant.isPortal(req.URL):
		return t.passBy(src, cur.Grant, req)
	case cur.Grant.portal().Path != address.RestPath && address.BearsOwnSecret(req.URL, cur.Grant.portal().Path):
		return t.send(req, req, "")
	}
	c := &call{t: t, src: src, req: req}
	c.out.Init(req, t.placement(), t.isPrompt())
	defer c.out.Finish()
	return c.do(cur)
}

// placeOnly serves a source that only supplies tokens.
func (t *Transport) placeOnly(req *http.Request) (*http.Response, error) {
	token, err := t.Source.Token()
	if err == nil && (token == nil || token.AccessToken == "") {
		err = configError("Transport.Source (%T) returned a token without AccessToken", t.Source)
	}
	switch {
	case err != nil && !address.Secure(req.URL):
		return t.send(req, req, "") // no token could go there
	case err != nil:
		outgoing.CloseBody(req)
		return nil, err
	}
	tellHidden(t.Source, token)
	first := safehttp.First(req).URL
	home := address.Portal{Scheme: first.Scheme, Host: address.CanonicalHost(first), Path: address.RestPath}
	if named, ok := token.Extra("client_endpoint").(string); ok && named != "" {
		if home, err = address.ParseEndpoint(named); err != nil {
			outgoing.CloseBody(req)
			return nil, configError("the token of Transport.Source (%T) names no portal that it may be sent to: %w", t.Source, err)
		}
	}
	switch {
	case !address.Secure(req.URL) || !home.Has(req.URL):
		return t.passThrough(req, token.AccessToken, home)
	case address.BearsOwnSecret(req.URL, home.Path):
		return t.send(req, req, "")
	}
	var r outgoing.Request
	r.Init(req, t.placement(), t.isPrompt())
	defer r.Finish()
	out, err := r.Prepare(outgoing.NewToken(token.AccessToken), home)
	if err != nil {
		return nil, err
	}
	return t.send(out, req, token.AccessToken)
}

// sendInTheClear sends a request that no token may travel with, so it needs no
// grant and is not held up for one. But the grant tells whether it goes to the
// portal itself.
func (t *Transport) sendInTheClear(src *TokenSource, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), renew.Patience(req.Context()))
	defer cancel()
	cur, err := src.known(ctx)
	if err != nil {
		return t.send(req, req, "")
	}
	return t.passBy(src, cur.Grant, req)
}

// passBy sends a request to another address than the portal's.
func (t *Transport) passBy(src *TokenSource, g *heldGrant, req *http.Request) (*http.Response, error) {
	src.tellMiss(req, g)
	return t.passThrough(req, g.access(), g.portal(), g.formerHosts()...)
}

// passThrough sends a request that gets no token, unless it goes to the portal
// itself in the clear. If a redirect brought it here and ours with it, ours is
// taken out.
func (t *Transport) passThrough(req *http.Request, token string, home address.Portal, former ...string) (*http.Response, error) {
	if address.Near(req.URL, home, former) == address.InTheClear {
		outgoing.CloseBody(req)
		return nil, t.ofSource(configError("the request goes to the portal's host %s over http, and everybody on the way could read it: make it https. Nothing was sent", redact.Host(req.URL.Host)))
	}
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

// isPrompt reports whether Base reads a body in memory at once: net/http does,
// and of others it is not known.
func (t *Transport) isPrompt() bool {
	_, ok := t.base().(*http.Transport)
	return ok
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
		return nil, t.ofSource(configError("%w, or put it above Transport", &safehttp.StrayedError{Transport: fmt.Sprintf("Transport.Base (%T)", t.base()), Host: strayed, Secret: "the access token"}))
	}
	if token != "" {
		safehttp.CleanHeader(resp, token)
	}
	resp.Request = req
	return resp, nil
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
