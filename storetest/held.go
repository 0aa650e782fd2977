package storetest

import (
	"context"
	"sync"
	"testing"

	"github.com/b24go/b24oauth"
)

// held is an Update whose fn waits to be told what to return.
type held struct {
	t      testing.TB
	called chan call
	answer chan answer
	result chan error
	once   sync.Once
}

// call is what fn was given.
type call struct {
	ctx   context.Context
	grant *b24oauth.Grant
}

// answer is what fn is to return.
type answer struct {
	grant *b24oauth.Grant
	err   error
}

// begin begins an Update, which may have to wait for its turn. The test ends
// it at the latest when it is over itself.
func begin(t testing.TB, ctx context.Context, s b24oauth.Store, key string) *held {
	h := &held{t: t, called: make(chan call, 1), answer: make(chan answer, 1), result: make(chan error, 1)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		h.result <- s.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			h.called <- call{ctx, g}
			a := <-h.answer
			return a.grant, a.err
		})
	}()
	t.Cleanup(func() {
		h.tell(answer{})
		await(t, over, "an Update that was told to end")
	})
	return h
}

// hold begins an Update and waits until fn runs.
func hold(t testing.TB, ctx context.Context, s b24oauth.Store, key string) (*held, call) {
	t.Helper()
	h := begin(t, ctx, s, key)
	return h, await(t, h.called, "fn of an Update whose turn it is")
}

func (h *held) tell(a answer) { h.once.Do(func() { h.answer <- a }) }

// end makes fn return g and err and returns what Update does.
func (h *held) end(g *b24oauth.Grant, err error) error {
	h.t.Helper()
	h.tell(answer{g, err})
	return await(h.t, h.result, "an Update whose fn has returned")
}
