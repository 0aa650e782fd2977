package sandbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// Grant is what an installation brings, in Bitrix24's names. It contains the tokens.
type Grant struct {
	AccessToken      string `json:"access_token"`
	RefreshToken     string `json:"refresh_token"`
	Expires          int64  `json:"expires"`    // seconds since 1970
	ExpiresIn        int64  `json:"expires_in"` // seconds
	Domain           string `json:"domain"`
	MemberID         string `json:"member_id"`
	ClientEndpoint   string `json:"client_endpoint"`
	ServerEndpoint   string `json:"server_endpoint"`
	UserID           int64  `json:"user_id"`
	ApplicationToken string `json:"application_token"`
	Scope            string `json:"scope"`
	Status           string `json:"status"`
}

func grantOf(g *b24oauth.Grant) Grant {
	_, rest, _ := strings.Cut(g.ClientEndpoint, "://")
	domain, _, _ := strings.Cut(rest, "/")
	return Grant{
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken,
		Expires: g.Expiry.Unix(), ExpiresIn: int64(g.Expiry.Sub(g.Issued) / time.Second),
		Domain: domain, MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint,
		UserID: g.UserID, ApplicationToken: g.ApplicationToken, Scope: g.Scope, Status: g.Status,
	}
}

// State is what the page shows.
type State struct {
	Portal       string     `json:"portal"`
	Endpoint     string     `json:"endpoint"`
	TokenURL     string     `json:"token_url"`
	ClientID     string     `json:"client_id"`
	ClientSecret string     `json:"client_secret"`
	Counters     Counters   `json:"counters"`
	Grants       []Standing `json:"grants"`             // newest first
	Requests     []Entry    `json:"requests,omitempty"` // newest last
}

// Counters count since the start.
type Counters struct {
	Requests  int `json:"requests"`
	Refreshes int `json:"refreshes"`
	Refusals  int `json:"refusals"` // calls refused because of their token
}

// Standing is a grant as the portal sees it now, without its tokens.
type Standing struct {
	UserID int64     `json:"user_id"`
	Expiry time.Time `json:"expiry"` // of the access token
	State  string    `json:"state"`  // good, expired (a refresh helps) or dead (only a new installation does)
}

// shownGrants is how many grants are shown: each event brings a pair, and so a grant.
const shownGrants = 20

func (s *Sandbox) standings() []Standing {
	grants := s.server.Grants()
	list := []Standing{}
	for i := len(grants) - 1; i >= 0 && len(list) < shownGrants; i-- {
		g := grants[i]
		state := "good"
		switch {
		case g.RefreshToken == "":
			state = "dead"
		case !time.Now().Before(g.Expiry):
			state = "expired"
		}
		list = append(list, Standing{g.UserID, g.Expiry.UTC().Truncate(time.Second), state})
	}
	return list
}

// summary is the state without the requests.
func (s *Sandbox) summary() State {
	return State{
		Portal: s.server.URL(), Endpoint: s.server.Endpoint(), TokenURL: s.server.TokenURL(),
		ClientID: s.server.ClientID(), ClientSecret: s.server.ClientSecret(),
		Counters: Counters{s.feed.count(), s.server.Refreshes(), s.server.Refusals()},
		Grants:   s.standings(),
	}
}

func (s *Sandbox) state() State {
	state := s.summary()
	state.Requests, _ = s.feed.since(0)
	return state
}

// Entry is a request to the portal or the authorization server, and what came of it.
type Entry struct {
	ID     int       `json:"id"` // counts from 1
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Params string    `json:"params"`  // as JSON, without secrets, perhaps cut
	AuthIn string    `json:"auth_in"` // where the token was: header, query, body, or nowhere
	Status int       `json:"status"`  // 0: the answer was lost
	Code   string    `json:"code"`    // of an error
}

const (
	keptEntries = 100
	maxParams   = 500 // bytes
)

func entryOf(r b24test.Request) Entry {
	params := maps.Clone(r.Params)
	for _, secret := range []string{"auth", "access_token", "refresh_token", "client_secret", "code"} {
		delete(params, secret)
	}
	e := Entry{At: time.Now().UTC(), Method: r.Method, Path: r.Path, AuthIn: r.AuthIn, Status: r.Status, Code: r.Code}
	if len(params) > 0 {
		text, err := json.Marshal(params)
		e.Params = cmp.Or(string(text), fmt.Sprint(err))
	}
	if len(e.Params) > maxParams {
		e.Params = strings.ToValidUTF8(e.Params[:maxParams], "") + "…"
	}
	return e
}

// feed is the last requests, and who waits for the next one.
type feed struct {
	mu      sync.Mutex // guards what follows
	entries []Entry
	total   int
	changed chan struct{} // closed, and replaced, at each change
}

// add enters a request.
func (f *feed) add(r b24test.Request) {
	e := entryOf(r)
	f.mu.Lock()
	f.total++
	e.ID = f.total
	if f.entries = append(f.entries, e); len(f.entries) > keptEntries {
		f.entries = append([]Entry(nil), f.entries[1:]...)
	}
	f.mu.Unlock()
	f.notify()
}

// notify says that something has changed.
func (f *feed) notify() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// since returns the requests after the one with that id, as far as they are kept, and
// what is closed at the next change.
func (f *feed) since(id int) ([]Entry, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	skip := 0
	for skip < len(f.entries) && f.entries[skip].ID <= id {
		skip++
	}
	return append([]Entry(nil), f.entries[skip:]...), f.changed
}

func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// events sends the kept requests, then each as it is answered, as events named
// request, and after each change what the page shows beside them, as state. A browser
// that comes back says which request it had last.
func (s *Sandbox) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	last, err := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	if err != nil || last > s.feed.count() { // of a sandbox before this one
		last = 0
	}
	stream := http.NewResponseController(w)
	for {
		entries, changed := s.feed.since(last)
		for _, e := range entries {
			last = e.ID
			if send(w, fmt.Sprintf("id: %d\nevent: request\n", e.ID), e) != nil {
				return
			}
		}
		if send(w, "event: state\n", s.summary()) != nil || stream.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// send writes an event. JSON has no line breaks.
func send(w http.ResponseWriter, head string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(w, "%sdata: %s\n\n", head, data)
	}
	return err
}
