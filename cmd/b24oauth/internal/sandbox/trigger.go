package sandbox

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Events are the usual names that [Known] takes. Any other that begins with ON is one
// as well, sent like those of the CRM.
var Events = []string{
	"ONAPPINSTALL", "ONAPPUPDATE", "ONAPPUSERREADY", "ONAPPUNINSTALL",
	"ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", "ONCRMLEADADD", "ONCRMCONTACTADD", "ONTASKADD",
	robot, frame,
}

// What Bitrix24 sends that is no event: a robot's call, and a page that is opened.
const (
	robot = "robot"
	frame = "frame"
)

var eventName = regexp.MustCompile(`^ON[A-Z0-9_]+$`)

// Known returns the name of an event as the sandbox takes it, "" if it is none.
func Known(event string) string {
	if lower := strings.ToLower(event); lower == robot || lower == frame {
		return lower
	}
	if upper := strings.ToUpper(event); eventName.MatchString(upper) {
		return upper
	}
	return ""
}

// Outcome is what a program answered to an event.
type Outcome struct {
	Event        string  `json:"event"`
	ForwardTo    string  `json:"forward_to"`
	Status       int     `json:"status"`
	Milliseconds float64 `json:"milliseconds"`
	Body         string  `json:"body"` // its start
}

const (
	// Patience is how long a program may take to answer.
	Patience = 30 * time.Second

	shownBody = 2 << 10
)

// forwarding sends what Bitrix24 would send. Bitrix24 follows no redirect.
var forwarding = http.Client{
	Timeout:       Patience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// trigger sends an event to a developer's program, and returns its answer.
func (s *Sandbox) trigger(r *http.Request) (any, error) {
	event := Known(r.Form.Get("event"))
	if event == "" {
		return nil, problem("unknown_event", "event is one of %s, or another name that begins with ON.", strings.Join(Events, ", "))
	}
	target := r.Form.Get("forward_to")
	if u, err := url.Parse(target); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, problem("bad_address", "forward_to is the address of your program, such as http://127.0.0.1:8080/bitrix.")
	}
	data := dataOf(r.Form)
	if len(data) > 0 && (event == robot || event == frame) {
		return nil, problem("no_data", "A %s has no data: leave it out.", event)
	}
	request, err := s.request(event, target, data)
	if err != nil {
		return nil, err
	}
	defer s.feed.notify() // of the pair that was issued, if no request has come by then
	return forward(request.WithContext(r.Context()), event, target)
}

// forward sends a request, and returns what the program answered and how fast.
func forward(request *http.Request, event, target string) (any, error) {
	start := time.Now()
	resp, err := forwarding.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the address, which stands in the text
		}
		p := problem("unreachable", "Your program did not answer at %s: %v. Start it, or give the address where it listens.", target, err)
		p.status = http.StatusBadGateway
		return nil, p
	}
	defer resp.Body.Close()
	took := time.Since(start)
	// An answer that breaks off is shown as far as it came.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, shownBody))
	return Outcome{event, target, resp.StatusCode, float64(took.Microseconds()) / 1000, strings.ToValidUTF8(string(body), "\uFFFD")}, nil
}

// dataOf are the fields data[…] of a form, by what stands in the brackets.
func dataOf(form url.Values) url.Values {
	data := make(url.Values)
	for name, values := range form {
		if rest, ok := strings.CutPrefix(name, "data["); ok {
			base, rest, _ := strings.Cut(rest, "]")
			data[base+rest] = values
		}
	}
	return data
}

// request makes what Bitrix24 would send, and does to the application what has
// happened by then: an event of an installation installs it, and so on.
func (s *Sandbox) request(event, target string, data url.Values) (*http.Request, error) {
	if event == "ONAPPINSTALL" {
		s.Install()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.installer == nil {
		return nil, problem("not_installed", "The application is not installed, so the portal sends nothing: trigger ONAPPINSTALL, or POST %sinstall.", Path)
	}
	if len(data) == 0 {
		data = usualData(event)
	}
	g := s.server.Reissue(s.installer)
	switch event {
	case robot:
		return s.server.RobotRequest(target, "sandbox", g), nil
	case frame:
		return s.server.FrameRequest(target, g), nil
	case "ONAPPUSERREADY":
		return s.server.UserReadyRequest(target, g, s.server.Employee()), nil
	case "ONAPPUNINSTALL":
		s.server.Uninstall()
		s.installer = nil
	}
	return s.server.EventRequest(target, event, g, data), nil
}

// usualData is what an event brings whose data is not given.
func usualData(event string) url.Values {
	switch {
	case event == "ONAPPINSTALL":
		return url.Values{"VERSION": {"1"}, "ACTIVE": {"Y"}, "INSTALLED": {"Y"}, "LANGUAGE_ID": {"en"}}
	case event == "ONAPPUPDATE":
		return url.Values{"VERSION": {"2"}, "PREVIOUS_VERSION": {"1"}, "LANGUAGE_ID": {"en"}}
	case event == "ONAPPUNINSTALL":
		return url.Values{"CLEAN": {"0"}, "LANGUAGE_ID": {"en"}}
	case strings.HasPrefix(event, "ONCRM"):
		return url.Values{"FIELDS[ID]": {"1"}}
	}
	return nil
}
