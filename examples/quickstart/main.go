// Command quickstart shows the main job of b24oauth: a plain http.Client that
// calls Bitrix24 and never meets an expired token. It needs no network, no
// credentials and no configuration, since it brings a portal and an authorization
// server of its own, on loopback.
//
// Each line tells what happened and what the two servers really saw. The
// program ends with status 1 if that is not what it should be.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/filestore"
)

// key is the name under which the grant is stored.
const key = "example-portal"

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// show is the program's state: the servers, the application's Config, and the
// client that calls with its tokens.
type show struct {
	srv     *b24test.Server
	config  *b24oauth.Config
	client  *http.Client
	failure *b24oauth.TokenError // what became of the dead grant
}

// counts is what the two servers saw.
type counts struct {
	calls     int // REST requests, replays included
	replays   int // of them, repeated because the token was refused
	requests  int // requests to the authorization server
	refreshes int // of them, answered with a new pair
}

func seen(srv *b24test.Server) counts {
	return counts{len(srv.Requests()), srv.Refusals(), len(srv.TokenRequests()), srv.Refreshes()}
}

func run(out io.Writer) error {
	srv := b24test.NewServer()
	defer srv.Close()
	dir, err := os.MkdirTemp("", "b24oauth-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	s := &show{srv: srv}
	steps := []struct {
		name string
		do   func() error
		want counts
	}{
		{"the application is installed, its grant stored", func() error { return s.install(dir) }, counts{}},
		{"a call with a fresh token", s.call, counts{calls: 1}},
		{"a call when the token has run out: renewed first", s.callAfterExpiry, counts{calls: 1, requests: 1, refreshes: 1}},
		{"a call when the portal ended it early: replayed", s.callAfterEarlyExpiry, counts{calls: 2, replays: 1, requests: 1, refreshes: 1}},
		{"200 calls at once when the token has run out", s.callAtOnce, counts{calls: 200, requests: 1, refreshes: 1}},
		{"a batch of two commands", s.batch, counts{calls: 1}},
		{"a new client on the same directory: a restart", func() error { return s.restart(dir) }, counts{calls: 1}},
		{"it goes on with the stored pair", s.callAfterExpiry, counts{calls: 1, requests: 1, refreshes: 1}},
		{"the grant is dead: three calls, one question", s.deadGrant, counts{requests: 1}},
	}
	fmt.Fprintf(out, "%-50s %5s  %7s  %14s  %9s\n", "what the servers saw", "calls", "replays", "token requests", "refreshes")
	for _, step := range steps {
		srv.Reset()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		got := seen(srv)
		fmt.Fprintf(out, "%-50s %5d  %7d  %14d  %9d\n", step.name, got.calls, got.replays, got.requests, got.refreshes)
		if got != step.want {
			return fmt.Errorf("%s: the servers saw %+v, expected %+v", step.name, got, step.want)
		}
	}
	fmt.Fprintf(out, "\nto the caller the dead grant is a *b24oauth.TokenError: %v\n", s.failure)
	return s.config.Flush(context.Background())
}

// open makes a Config on the directory and a client with its tokens, as a
// program does when it starts.
func (s *show) open(dir string) error {
	store, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	s.config = s.srv.Config() // for the real Bitrix24: b24oauth.ConfigFromEnv()
	s.config.Store = store
	s.client = s.config.Client(key)
	return nil
}

// install stores what an installation brings.
func (s *show) install(dir string) error {
	if err := s.open(dir); err != nil {
		return err
	}
	return s.config.Save(context.Background(), key, s.srv.Install())
}

func (s *show) call() error {
	resp, err := s.client.PostForm(s.srv.Endpoint()+"crm.deal.list", url.Values{"filter[STAGE_ID]": {"NEW"}})
	return served(resp, err)
}

// callAfterExpiry calls with a token that ends within the minute before which
// it is renewed.
func (s *show) callAfterExpiry() error {
	if err := s.runOut(); err != nil {
		return err
	}
	return s.call()
}

func (s *show) callAfterEarlyExpiry() error {
	s.srv.ExpireAccessTokens()
	return s.call()
}

func (s *show) callAtOnce() error {
	if err := s.runOut(); err != nil {
		return err
	}
	errs := make([]error, 200)
	var calls sync.WaitGroup
	for i := range errs {
		calls.Go(func() { errs[i] = s.call() })
	}
	calls.Wait()
	return errors.Join(errs...)
}

func (s *show) batch() error {
	resp, err := s.client.Post(s.srv.Endpoint()+"batch", "application/json",
		strings.NewReader(`{"halt":0,"cmd":{"deals":"crm.deal.list","me":"profile"}}`))
	return served(resp, err)
}

// restart opens the directory anew, with nothing in memory.
func (s *show) restart(dir string) error {
	if err := s.open(dir); err != nil {
		return err
	}
	return s.call()
}

func (s *show) deadGrant() error {
	if err := s.runOut(); err != nil {
		return err
	}
	s.srv.KillGrants()
	for range 3 {
		err := s.call()
		if !errors.As(err, &s.failure) || !errors.Is(err, b24oauth.ErrReauthorize) {
			return fmt.Errorf("expected a *TokenError that is ErrReauthorize, got %v", err)
		}
	}
	return nil
}

// runOut has the stored token end now, as an hour of waiting would.
func (s *show) runOut() error {
	ctx := context.Background()
	grant, err := s.config.TokenSource(key).Grant(ctx)
	if err != nil {
		return err
	}
	grant.Expiry = time.Now()
	return s.config.Save(ctx, key, grant)
}

// served reports a call that did not succeed.
func served(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return nil
}
