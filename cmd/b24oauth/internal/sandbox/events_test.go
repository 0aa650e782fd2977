package sandbox_test

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

// stream reads server-sent events.
type stream struct {
	*bufio.Scanner
	t *testing.T
}

func (f *fixture) stream(lastID string) *stream {
	f.t.Helper()
	r := f.request("GET", f.server.URL()+sandbox.Path+"events", nil)
	r.Header.Set("Last-Event-ID", lastID)
	resp, err := f.server.Client().Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { resp.Body.Close() })
	expect(f.t, "Content-Type", resp.Header.Get("Content-Type"), "text/event-stream")
	return &stream{bufio.NewScanner(resp.Body), f.t}
}

// next reads one event.
func (s *stream) next() (name, data string) {
	s.t.Helper()
	for s.Scan() {
		field, value, _ := strings.Cut(s.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			data = value
		case "":
			return name, data
		}
	}
	s.t.Fatalf("the stream has ended: %v", s.Err())
	return "", ""
}

func (s *stream) request() (e sandbox.Entry) {
	s.t.Helper()
	for {
		if name, data := s.next(); name == "request" {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				s.t.Fatalf("%q: %v", data, err)
			}
			return e
		}
	}
}

func TestRequestsShowUpInTheStreamAsTheyCome(t *testing.T) {
	f := open(t)
	g := f.Install()
	f.call(g)
	s := f.stream("")
	if e := s.request(); e.ID != 1 || e.Path != "/rest/crm.deal.list" || e.Status != 200 {
		t.Errorf("what came before: %+v", e)
	}
	name, data := s.next()
	var state sandbox.State
	if err := json.Unmarshal([]byte(data), &state); err != nil || name != "state" || state.Counters.Requests != 1 || len(state.Grants) != 1 {
		t.Errorf("%s %s: %v", name, data, err)
	}
	f.renew(g)
	if e := s.request(); e.ID != 2 || e.Path != "/oauth/token/" || e.Status != 200 {
		t.Errorf("a refresh: %+v", e)
	}
	f.post("expire", nil, nil)
	for name = ""; !strings.Contains(data, `"state":"expired"`); name, data = s.next() {
		if name == "request" {
			t.Error("a button is shown as a request")
		}
	}

	f.call(g)
	if e := f.stream("2").request(); e.ID != 3 || e.Code != "expired_token" {
		t.Errorf("a browser that comes back hears first of %+v", e)
	}
	if e := f.stream("99").request(); e.ID != 1 {
		t.Errorf("a browser that was at an earlier sandbox hears first of %+v", e)
	}
}

func TestAnOpenStreamDoesNotHoldUpTheEnd(t *testing.T) {
	f := open(t)
	s := f.stream("")
	s.next()
	f.server.Close() // would hang
	if s.Scan() {
		t.Errorf("the stream goes on: %s", s.Text())
	}
}
