package storetest

import (
	"context"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
)

// held is an Update whose fn waits until the test lets it return.
type held struct {
	t       testing.TB
	called  chan call
	returns chan fnResult
	result  chan error
	once    sync.Once
}

// call is what fn was given.
type call struct {
	ctx   context.Context
	grant *b24oauth.Grant
}

// fnResult is what fn is to return.
type fnResult struct {
	grant *b24oauth.Grant
	err   error
}

// begin begins an Update, which may have to wait for another one. The test ends
// it at the latest when it is over itself.
func begin(t testing.TB, ctx context.Context, s b24oauth.Store, key string) *held {
	h := &held{t: t, called: make(chan call, 1), returns: make(chan fnResult, 1), result: make(chan error, 1)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		h.result <- s.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			h.called <- call{ctx, g}
			o := <-h.returns
			return o.grant, o.err
		})
	}()
	t.Cleanup(func() {
		h.let(fnResult{})
		await(t, over, "an Update whose fn was let go")
	})
	return h
}

// hold begins an Update and waits until fn runs.
func hold(t testing.TB, ctx context.Context, s b24oauth.Store, key string) (*held, call) {
	t.Helper()
	h := begin(t, ctx, s, key)
	return h, await(t, h.called, "fn of an Update that nobody is in the way of")
}

func (h *held) let(o fnResult) { h.once.Do(func() { h.returns <- o }) }

// end makes fn return g and err and returns what Update does.
func (h *held) end(g *b24oauth.Grant, err error) error {
	h.t.Helper()
	h.let(fnResult{g, err})
	return await(h.t, h.result, "an Update whose fn has returned")
}
