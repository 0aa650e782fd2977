// Package tokenrequest asks an authorization server for a token.
//
// A request that is repeated at the wrong moment spends a refresh token twice,
// and one that is not repeated at all makes each hiccup of a network a failure.
// So net/http never repeats one here, a redirect leads nowhere, and the request
// is sent again only after a failure that passes.
package tokenrequest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/safehttp"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

const (
	tries       = 3 // requests, at most
	firstPause  = 250 * time.Millisecond
	secondPause = time.Second
)

// Request is what is asked for.
type Request struct {
	Client   *http.Client  // of the user; nil: our own
	Method   string        // GET, or POST; "": GET
	URL      *url.URL      // the server's token URL
	Params   url.Values    // secrets among them
	Patience time.Duration // what callers wait for: shortly before its end nothing is sent again

	// Passes reports whether a failure passes by itself.
	Passes func(*tokenresponse.Failure) bool
}

// Answer is what came of a Request: the tokens, or why there are none.
type Answer struct {
	Tokens   *tokenresponse.Tokens
	Failure  *tokenresponse.Failure
	Sent     time.Time // when the request was sent that was answered
	Attempts int       // requests that were sent
}

// ErrInvalid is the cause of a Failure if the request cannot be built.
var ErrInvalid = errors.New("the token request cannot be built: check Config.TokenURL and Config.TokenMethod")

// Send sends the request, up to three times as long as the failures pass. An
// answer that says when to come back ends it at once: who calls keeps that
// pause. ctx may last longer than Patience, for an answer on its way.
func (r *Request) Send(ctx context.Context) Answer {
	var a Answer
	until := time.Now().Add(r.Patience - 2*secondPause)
	client := retryablehttp.Client{
		HTTPClient: safehttp.Once(r.Client, "Config.TokenClient", "the client secret"),
		RetryMax:   tries - 1,
		RequestLogHook: func(retryablehttp.Logger, *http.Request, int) {
			a.Sent = time.Now()
			a.Attempts++
		},
		CheckRetry: func(ctx context.Context, resp *http.Response, err error) (bool, error) {
			a.Tokens, a.Failure = read(resp, err, a.Sent)
			again := a.Failure != nil && r.Passes(a.Failure) && a.Failure.RetryAfter == 0
			return again && ctx.Err() == nil && time.Now().Before(until), nil
		},
		Backoff: func(_, _ time.Duration, attempt int, _ *http.Response) time.Duration {
			pause := firstPause
			if attempt > 0 {
				pause = secondPause
			}
			return pause/2 + rand.N(pause)
		},
	}
	redacted, _ := redact.Trace(ctx)
	req, err := r.build(redacted)
	if err != nil {
		return Answer{Failure: &tokenresponse.Failure{Err: ErrInvalid}} // err quotes the URL
	}
	// What Do returns repeats what CheckRetry has seen, with the URL in it.
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
	if a.Tokens == nil && a.Failure == nil {
		a.Failure = &tokenresponse.Failure{Err: fmt.Errorf("the token request was not sent: %w", context.Cause(ctx))}
	}
	return a
}

func (r *Request) build(ctx context.Context) (*retryablehttp.Request, error) {
	if r.Method == http.MethodPost {
		req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, r.URL.String(), []byte(r.Params.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	full := *r.URL
	if full.RawQuery != "" {
		full.RawQuery += "&"
	}
	full.RawQuery += r.Params.Encode()
	return retryablehttp.NewRequestWithContext(ctx, http.MethodGet, full.String(), nil)
}

// read returns the tokens that one request came to, or the reason why there are
// none, without the request's URL.
func read(resp *http.Response, err error, sent time.Time) (*tokenresponse.Tokens, *tokenresponse.Failure) {
	if err == nil {
		return tokenresponse.Read(resp, sent)
	}
	err = redact.WithoutURL(err)
	if _, strayed := errors.AsType[*safehttp.StrayedError](err); !strayed && quotesAnswer(err) {
		err = errors.New("the answer is no HTTP: what came cannot be told from tokens and is not quoted")
	}
	return nil, &tokenresponse.Failure{Err: err}
}

// quotesAnswer reports whether an error may quote what the server sent: net/http
// quotes a line that it cannot read, and new tokens may stand in it.
func quotesAnswer(err error) bool {
	text := err.Error()
	return strings.Contains(text, "malformed") || strings.Contains(text, "_token")
}
