package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/redis/go-redis/v9"
)

const (
	fleetVariable = "B24OAUTH_TEST_FLEET_TASK"

	fleetCallers = 25              // goroutines for each grant in each process
	callBound    = 2 * time.Minute // more than any call may take

	// fleetPause is the time between two calls of one, on average: 600 callers
	// without any would keep two processors from doing anything else, such as
	// renewing in time.
	fleetPause = 500 * time.Millisecond

	// processHeader names the process that sent a token request.
	processHeader = "X-Fleet-Process"
)

// fleetTask is what a process of the fleet is told, as JSON in fleetVariable.
type fleetTask struct {
	Process                          string
	Store                            fleetStore
	Keys                             []string
	ClientID, ClientSecret, TokenURL string
	Endpoint                         string
	RefreshTimeout                   time.Duration
	LogFile                          string // empty: none
}

// fleetWord is what a process says, one of its fields, as a line of JSON.
type fleetWord struct {
	Served *fleetServed `json:",omitempty"`
	Answer *fleetAnswer `json:",omitempty"`
	Report *fleetReport `json:",omitempty"`
}

// fleetServed: every caller of the grant has got through with the token.
type fleetServed struct{ Key, Token string }

// fleetAnswer: what came of the exchange of a refresh token.
type fleetAnswer struct{ RefreshToken, Fate string }

// Fates of an answer. None of the refusals is of interest here.
const (
	heard    = "heard"    // a new pair has arrived
	cut      = "cut"      // nothing has
	late     = "late"     // nothing has within RefreshTimeout
	canceled = "canceled" // by the package, which must not do that
)

// TestFleetProcess is no test but what a process of the fleet does: it calls
// until its standard input ends, and then tells what became of the calls.
func TestFleetProcess(t *testing.T) {
	text := os.Getenv(fleetVariable)
	if text == "" {
		t.Skip("this is for the processes that the torture starts")
	}
	redis.SetLogger(noRedisLog{})
	m := &fleetMember{served: make(map[fleetServed]int)}
	if err := json.Unmarshal([]byte(text), &m.task); err != nil {
		t.Fatal(err)
	}
	store, closeStore, err := m.task.Store.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	config, err := m.config(store)
	if err != nil {
		t.Fatal(err)
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 2 * fleetCallers * len(m.task.Keys)
	base.MaxIdleConns = 0

	stop := make(chan struct{})
	var callers sync.WaitGroup
	for _, key := range m.task.Keys {
		client := &http.Client{Transport: &b24oauth.Transport{
			Source:    config.TokenSource(key),
			Base:      seeingTransport{base},
			Placement: b24oauth.PlaceQuery,
		}}
		for range fleetCallers {
			callers.Go(func() { m.call(client, key, stop) })
		}
	}
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	callers.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), callBound)
	defer cancel()
	if err := config.Flush(ctx); err != nil {
		m.report.Flush = err.Error()
	}
	m.report.Process = m.task.Process
	m.say(fleetWord{Report: &m.report})
}

// fleetMember is a process of the fleet, seen from within.
type fleetMember struct {
	task fleetTask

	mu     sync.Mutex          // guards what follows and standard output
	served map[fleetServed]int // how many callers have got through
	report fleetReport
}

func (m *fleetMember) config(store b24oauth.Store) (*b24oauth.Config, error) {
	config := &b24oauth.Config{
		ClientID:       m.task.ClientID,
		ClientSecret:   m.task.ClientSecret,
		TokenURL:       m.task.TokenURL,
		Store:          store,
		RefreshTimeout: m.task.RefreshTimeout,
		TokenClient:    &http.Client{Transport: hearingTransport{m, &http.Transport{DisableKeepAlives: true}}},
	}
	if m.task.LogFile != "" {
		log, err := os.Create(m.task.LogFile)
		if err != nil {
			return nil, err
		}
		config.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	return config, nil
}

// call calls until stop is closed.
func (m *fleetMember) call(client *http.Client, key string, stop <-chan struct{}) {
	last := "" // the token that it last got through with
	for {
		token, err := m.once(client)
		m.note(key, err)
		if err == nil && token != last {
			last = token
			m.gotThrough(fleetServed{key, token})
		}
		pause := time.NewTimer(fleetPause/2 + rand.N(fleetPause))
		select {
		case <-pause.C:
		case <-stop:
			pause.Stop()
			return
		}
	}
}

// once makes one call, with a body that a repetition needs again, and returns
// the token that it was last sent with.
func (m *fleetMember) once(client *http.Client) (token string, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), sentToken{}, &token), callBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.task.Endpoint+"crm.deal.list", strings.NewReader("filter[ID]=1"))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return token, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the portal answered %s: %s", resp.Status, body)
	}
	return token, err
}

func (m *fleetMember) note(key string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report.note(key, err, time.Now())
}

// gotThrough notes that one more caller has got through with the token.
func (m *fleetMember) gotThrough(s fleetServed) {
	m.mu.Lock()
	m.served[s]++
	all := m.served[s] == fleetCallers
	m.mu.Unlock()
	if all {
		m.say(fleetWord{Served: &s})
	}
}

func (m *fleetMember) say(w fleetWord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	line, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
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
// them got a new pair and which got no answer. That is the evidence of who
// has a pair: what the package under test says of it is not asked.
type hearingTransport struct {
	m    *fleetMember
	base http.RoundTripper
}

func (h hearingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	signed := req.Clone(req.Context())
	signed.Header.Set(processHeader, h.m.task.Process)
	resp, err := h.base.RoundTrip(signed)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	answer := &fleetAnswer{req.URL.Query().Get("refresh_token"), cut}
	switch {
	case err == nil && resp.StatusCode != http.StatusOK:
		return resp, nil
	case err == nil:
		answer.Fate = heard
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
