// Package limit keeps calls of Bitrix24's REST API within the portal's budget: two in a
// second and fifty at once, for all programs at one address together. A portal refuses
// what is beyond it with QUERY_LIMIT_EXCEEDED, and a program that then calls again at
// once keeps everybody else at that address out as well.
//
//	client := &http.Client{Transport: &limit.Transport{Base: &b24oauth.Transport{Source: source}}}
//
// It stands above a [github.com/b24go/b24oauth.Transport], so that a call which waits
// gets its token afterwards, and below what repeats, so that each repetition waits too.
// The budget of a [Transport] is its own, unless it is given one to share: a [Process]
// between Transports, package redislimit's between processes.
package limit

import (
	"context"
	"net/http"
	"strings"

	"github.com/b24go/b24oauth/internal/resterror"
)

// A Budget is what portals allow. All its methods may be called concurrently.
type Budget interface {
	// Wait returns when a call of the portal, a host in lower case with its port if
	// there is one, may be sent. Its error is the reason why it may not: that ctx has
	// ended, or would before there is room.
	Wait(ctx context.Context, portal string) error

	// Exceeded is told that the portal has refused a call, since others use its budget
	// too: for the next half a minute Wait allows less.
	Exceeded(portal string)
}

// Transport is an [http.RoundTripper] that sends a call when its portal's budget allows
// it. What is no call of a method, having no /rest/ in its path, passes. It is safe for
// concurrent use; its fields are not changed after the first use.
//
// A call that would have to wait for longer than its context lasts fails at once, with
// an error that is [context.DeadlineExceeded]. A refusal, QUERY_LIMIT_EXCEEDED, is the
// caller's: package retry repeats it.
type Transport struct {
	// Base sends the calls. Nil: [http.DefaultTransport].
	Base http.RoundTripper

	// Budget is asked before each call. Nil: a [Process] of this Transport's own.
	Budget Budget

	own Process
}

var _ http.RoundTripper = (*Transport)(nil)

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if !strings.Contains(r.URL.Path, "/rest/") {
		return base.RoundTrip(r)
	}
	budget := t.Budget
	if budget == nil {
		budget = &t.own
	}
	portal := strings.ToLower(r.URL.Host)
	if err := budget.Wait(r.Context(), portal); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	resp, err := base.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
		// The answer stays whole. Other reasons for a 503 say nothing of the budget.
		if _, code := resterror.Inspect(r.Context(), resp); strings.EqualFold(code, "QUERY_LIMIT_EXCEEDED") {
			budget.Exceeded(portal)
		}
	}
	return resp, err
}
