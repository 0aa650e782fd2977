package integration

import (
	"bufio"
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
	orderBound   = time.Minute     // longer than a lease, which may have to be waited for

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

// fleetOrder is what a process is told while it runs, as a line of JSON.
type fleetOrder struct {
	ID    int
	Key   string
	Grant []byte // to be saved, as [b24oauth.Grant.MarshalBinary] has it
}

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
	config, err := m.config(savingStore{store, m})
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
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var o fleetOrder
		if err := json.Unmarshal(orders.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		callers.Go(func() { m.obey(config, o) })
	}
	close(stop)
	callers.Wait()
	if err := flush(config); err != nil {
		m.report.Flush = err.Error()
	}
	m.report.Process = m.task.Process
	m.say(fleetWord{Report: &m.report})
}

// flush does what a program has to do before it ends, and does it again while
// the Store cannot be reached.
func flush(config *b24oauth.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), callBound)
	defer cancel()
	for {
		err := config.Flush(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		<-time.After(fleetPause)
	}
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

// obey does what an order says.
func (m *fleetMember) obey(config *b24oauth.Config, o fleetOrder) {
	ctx, cancel := context.WithTimeout(context.Background(), orderBound)
	defer cancel()
	g := new(b24oauth.Grant)
	err := g.UnmarshalBinary(o.Grant)
	if err == nil {
		err = config.Save(ctx, o.Key, g)
	}
	done := &fleetDone{ID: o.ID}
	if err != nil {
		done.Text = err.Error()
		done.Outdated = errors.Is(err, b24oauth.ErrOutdated)
		done.Passing = errors.Is(err, b24oauth.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
	}
	m.say(fleetWord{Done: done})
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

var errUnauthorized = errors.New("the portal answered 401")

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
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusUnauthorized:
		err = fmt.Errorf("%w: %s", errUnauthorized, body)
	case resp.StatusCode != http.StatusOK:
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
	n := m.served[s]
	m.mu.Unlock()
	switch n {
	case 1:
		m.say(fleetWord{Holds: &s})
	case fleetCallers:
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
