package b24oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// lineage is what the test knows of a refresh token.
type lineage struct {
	install, step int // the step-th descendant of an installation
	alive         bool
	written       bool      // it has been in the Store
	lost          bool      // its answer never arrived
	by            *process  // who fetched it
	at            time.Time // when
}

// wire is the way to the authorization server. It sees every answer, also
// those that it loses.
type wire struct {
	srv  *b24test.Server
	base http.RoundTripper

	mu       sync.Mutex // guards what follows
	tokens   map[string]*lineage
	installs int
	cut      int             // answers to lose
	delays   []time.Duration // of the next answers
	requests int
	unsaved  []string // exchanges of a token that had never been in the Store
}

// install is a new installation's grant.
func (w *wire) install() *b24oauth.Grant {
	g := w.srv.Install()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.installs++
	w.tokens[g.RefreshToken] = &lineage{install: w.installs, alive: true}
	return g
}

func (w *wire) lineage(refresh string) lineage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.tokens[refresh]; l != nil {
		return *l
	}
	return lineage{}
}

// newest returns the last descendant of an installation.
func (w *wire) newest(install int) (l lineage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.step = -1
	for _, t := range w.tokens {
		if t.install == install && t.step > l.step {
			l = *t
		}
	}
	return l
}

// wirer is a process's end of the wire.
type wirer struct {
	*wire
	by *process
}

func (w wirer) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.by.step(); err != nil {
		return nil, err
	}
	resp, err := w.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	next, cut, delay := w.note(req.FormValue("refresh_token"), body, w.by)
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		if !errors.Is(req.Context().Err(), context.DeadlineExceeded) {
			return nil, req.Context().Err() // nothing but its own bound may end an exchange
		}
		cut = true
	case <-w.by.killed:
	}
	if err := w.by.step(); err != nil {
		return nil, err
	}
	if cut {
		w.mu.Lock()
		defer w.mu.Unlock()
		if next != nil {
			next.lost = true
		}
		return nil, io.ErrUnexpectedEOF
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (w *wire) note(old string, body []byte, by *process) (next *lineage, cut bool, delay time.Duration) {
	var answer struct {
		Refresh string `json:"refresh_token"`
		Error   string `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // an answer that is none has neither
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	if from := w.tokens[old]; !from.written {
		w.unsaved = append(w.unsaved, fmt.Sprintf("%s exchanged %d.%d, which was not saved", by.name, from.install, from.step))
	}
	if answer.Refresh != "" {
		from := w.tokens[old]
		from.alive = false
		next = &lineage{install: from.install, step: from.step + 1, alive: true, by: by, at: time.Now()}
		w.tokens[answer.Refresh] = next
	}
	if w.cut > 0 {
		w.cut--
		cut = true
	}
	if len(w.delays) > 0 {
		delay, w.delays = w.delays[0], w.delays[1:]
	}
	return next, cut, delay
}
