package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/b24go/b24oauth"
)

// Who has a pair, and who has saved it, is not asked of the package under
// test: each process of the fleet says what passes through its hands.

// fleetWord is what a process says, one of its fields, as a line of JSON.
type fleetWord struct {
	Holds  *fleetServed `json:",omitempty"` // one of its callers got through with the token
	Served *fleetServed `json:",omitempty"` // every caller of the grant did
	Answer *fleetAnswer `json:",omitempty"`
	Saved  string       `json:",omitempty"` // a refresh token that the Store has taken
	Done   *fleetDone   `json:",omitempty"`
	Report *fleetReport `json:",omitempty"`
}

type fleetServed struct{ Key, Token string }

// fleetAnswer: what came of the exchange of a refresh token.
type fleetAnswer struct {
	RefreshToken, Fate string
	Pair               fleetPair // if it was heard
}

type fleetPair struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// Fates of an answer. None of the refusals is of interest here.
const (
	heard    = "heard"    // a new pair has arrived
	cut      = "cut"      // nothing has
	late     = "late"     // nothing has while the package waited
	canceled = "canceled" // by the package, which must not do that
)

// fleetDone: what came of an order.
type fleetDone struct {
	ID       int
	Text     string // of the error; empty: none
	Outdated bool
	Passing  bool // the error says that the Store did not answer, or not in time
}

// sentToken is the context key of the place for the token that was sent.
type sentToken struct{}

// seeingTransport sees the token of each request.
type seeingTransport struct{ http.RoundTripper }

func (s seeingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if token, ok := req.Context().Value(sentToken{}).(*string); ok {
		*token = req.URL.Query().Get("auth")
	}
	return s.RoundTripper.RoundTrip(req)
}

// hearingTransport signs the token requests of a process, and says which of
// them got a new pair and which got no answer.
type hearingTransport struct {
	m    *fleetMember
	base http.RoundTripper
}

func (h hearingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	signed := req.Clone(req.Context())
	signed.Header.Set(processHeader, h.m.task.Process)
	resp, err := h.base.RoundTrip(signed)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	answer := &fleetAnswer{RefreshToken: req.URL.Query().Get("refresh_token"), Fate: cut}
	switch {
	case err == nil && resp.StatusCode != http.StatusOK:
		return resp, nil
	case err == nil:
		answer.Fate = heard
		err = json.Unmarshal(body, &answer.Pair)
	case errors.Is(err, context.Canceled):
		answer.Fate = canceled
	case errors.Is(err, context.DeadlineExceeded):
		answer.Fate = late
	}
	h.m.say(fleetWord{Answer: answer})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// savingStore says which pairs the Store has taken.
type savingStore struct {
	b24oauth.Store
	m *fleetMember
}

func (s savingStore) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	saved := ""
	err := s.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		next, err := fn(ctx, g)
		if err == nil && next != nil {
			saved = next.RefreshToken
		}
		return next, err
	})
	if err == nil && saved != "" {
		s.m.say(fleetWord{Saved: saved})
	}
	return err
}

// Flush is for [b24oauth.Config.Flush], which looks for it.
func (s savingStore) Flush(ctx context.Context) error {
	if store, ok := s.Store.(interface{ Flush(context.Context) error }); ok {
		return store.Flush(ctx)
	}
	return nil
}
