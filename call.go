package b24oauth

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/renew"
	"github.com/b24go/b24oauth/internal/resterror"
	"github.com/b24go/b24oauth/internal/safehttp"
)

// A call that is repeated without end costs a token each time, and one that is
// repeated with half a body does half of what it should. So a request is
// repeated once after a refusal, and once where its portal was renamed.

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
func (c *call) do(cur *current) (*http.Response, error) {
	ambiguous := false
	for {
		g := cur.Grant
		token := g.sent()
		out, err := c.out.Prepare(token, g.portal())
		if err != nil {
			return nil, err
		}
		resp, err := c.t.send(out, c.req, token.Value)
		if err != nil {
			return nil, err
		}
		next := (*current)(nil)
		switch status := resp.StatusCode; {
		case status >= 200 && status < 300:
			if ambiguous {
				cur.Helped()
			}
		case status >= 300 && status < 400:
			next = c.followRename(resp, g, out)
		case status == http.StatusUnauthorized:
			verdict, code := resterror.Inspect(c.req.Context(), resp)
			c.explain(code)
			ambiguous = verdict == resterror.Ambiguous
			if verdict != resterror.Other && !c.replayed {
				next, err = c.renew(g, ambiguous, code)
			}
		}
		if next == nil && err == nil {
			return resp, nil
		}
		safehttp.Discard(resp)
		if err != nil {
			return nil, err
		}
		cur = next
	}
}

// renew has a refused token renewed and returns what to repeat the request
// with; nil if the refusal is to reach the caller.
func (c *call) renew(g *heldGrant, ambiguous bool, code string) (*current, error) {
	ctx := c.req.Context()
	next, f := c.src.source.Get(ctx, renew.Why{Refused: g.access(), Ambiguous: ambiguous})
	switch {
	case f != nil && f.Declined():
		return nil, nil
	case f == nil && !next.Grant.isPortal(c.req.URL):
		return nil, nil // the grant is another portal's now
	case !c.out.Again(): // asked last, since it ends the sending of the body
		return nil, nil
	case f != nil:
		return nil, c.src.failure(f)
	}
	c.replayed = true
	c.src.cfg.emit(ctx, Event{Kind: EventReplayed, Key: c.src.key, Token: tokenLabel(next.Grant.access()), Code: code})
	return next, nil
}

// explain logs why a portal may have found no token though it was sent one.
func (c *call) explain(code string) {
	why, log, key, ctx := c.out.WhyUnread(), c.src.cfg.Logger, c.src.key, c.req.Context()
	if !strings.EqualFold(code, "NO_AUTH_FOUND") || why == "" || log == nil {
		return
	}
	c.src.cfg.survive(ctx, func() {
		log.LogAttrs(ctx, slog.LevelDebug, "b24oauth: the portal found no token; perhaps it cannot read the request's body, which has it", slog.String("key", key), slog.String("because", why))
	})
}

// followRename answers a redirect from the portal to another host. Only the
// authorization server can say that the portal has moved, and where to; if it
// does, the request is repeated there with its method and body, which
// http.Client would drop. Otherwise the redirect is the caller's, without our
// token, as is that of a file or a page, which says nothing of the portal.
func (c *call) followRename(resp *http.Response, g *heldGrant, out *http.Request) *current {
	target := safehttp.RedirectTarget(resp, out.URL)
	if target == "" || c.moved || address.Method(out.URL, g.portal().Path) == "" {
		return nil
	}
	next, f := c.src.source.Get(c.req.Context(), renew.Why{Refused: g.access(), Host: target})
	if f != nil || next.Grant.portal().Host == g.portal().Host || !next.Grant.isPortal(c.req.URL) || !c.out.Again() {
		return nil
	}
	c.moved = true
	return next
}
