package install

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/redact"
)

// Event is what Bitrix24 posts to a handler of an application: an event, or the
// call of a robot or a workflow's activity. It is as the request says, and nobody
// vouches for that: the application token in it is known to every user of the
// portal, so that it proves no more than that one of them, or Bitrix24, has sent
// it, and any user can make up the rest, Data included. [b24oauth.Config.Confirm]
// says whose the access token is, if there is one.
//
// An Event holds secrets and does not tell them: printing and logging one shows its
// name and its portal.
type Event struct {
	// Name is the event's, in upper case, such as ONCRMDEALADD; empty for a robot
	// or an activity, whose Code is in Data.
	Name string

	// Time is when it happened, by the portal's clock; zero if it does not say.
	Time time.Time

	// Grant has the portal (MemberID, ClientEndpoint, ServerEndpoint,
	// ApplicationToken) and whatever tokens came. It belongs to the user who acted,
	// except for the events that [Reader.ReadGrant] takes; without a user, as when
	// a robot acted, there is no access token, and in nearly all events no refresh
	// token. It is never nil.
	Grant *b24oauth.Grant

	// Data are the fields of data[…], by what stands in the brackets: FIELDS[ID]
	// for data[FIELDS][ID]. For a robot or an activity they are all of its fields
	// but those of auth[…]. Those that hold tokens are in Grant alone.
	Data url.Values
}

// bringsPair are the events with a pair of tokens that is the application's own.
var bringsPair = map[string]bool{
	"ONAPPINSTALL": true, "ONAPPUPDATE": true, "ONSUBSCRIPTIONRENEW": true, "ONAPPTEST": true, systemUserReady: true,
}

// systemUserReady brings the pair of the system user in data, beside the
// installer's in auth, which is not the one to keep.
const systemUserReady = "ONAPPUSERREADY"

// ReadEvent is ReadEvent of the zero [Reader].
func ReadEvent(r *http.Request) (*Event, error) { return Reader{}.ReadEvent(r) }

// ReadEvent returns the event in a request of Bitrix24's, or the call of a robot or
// an activity. It reads the request's form, at most 1 MiB of it, and changes
// nothing else. The lifetime of an access token counts from now.
//
// A request without event and auth is an error, as is one with a field of
// interest twice, or of a portal at a private address. Errors tell what is wrong
// and no secret.
func (rd Reader) ReadEvent(r *http.Request) (*Event, error) {
	f, err := readForm(r, maxEvent)
	if err != nil {
		return nil, err
	}
	e := readEvent(f)
	switch {
	case f.err != nil:
		return nil, f.err
	case e.Name == "" && e.Grant.MemberID == "":
		return nil, fmt.Errorf("b24oauth/install: the request is no event, robot or activity: it has neither the field event nor auth[member_id]")
	}
	if err := rd.checkPortal(e.Grant); err != nil {
		return nil, err
	}
	return e, nil
}

// readEvent reads an event as far as it is one. f.err says what came twice.
func readEvent(f *form) *Event {
	e := &Event{Name: strings.ToUpper(f.get("event")), Data: make(url.Values)}
	if unix, err := strconv.ParseInt(f.get("ts"), 10, 64); err == nil && unix > 0 {
		e.Time = time.Unix(unix, 0).UTC()
	}
	auth := func(name string) string { return f.get("auth[" + name + "]") }
	user := auth // whose pair it is
	if e.Name == systemUserReady {
		user = func(name string) string { return f.get("data[" + name + "]") }
	}
	e.Grant = &b24oauth.Grant{
		ClientID:         user("client_id"),
		MemberID:         auth("member_id"),
		ClientEndpoint:   auth("client_endpoint"),
		ServerEndpoint:   auth("server_endpoint"),
		AccessToken:      user("access_token"),
		RefreshToken:     user("refresh_token"),
		ApplicationToken: auth("application_token"),
		Issued:           f.now,
		Expiry:           f.now.Add(lifetime.Of(user("expires_in"), user("expires"), f.now)),
		Scope:            auth("scope"),
		Status:           auth("status"),
	}
	if id, err := strconv.ParseInt(user("user_id"), 10, 64); err == nil {
		e.Grant.UserID = id
	}
	for name, values := range f.body {
		inner, ok := strings.CutPrefix(name, "data[")
		switch {
		case ok:
			if index, rest, closed := strings.Cut(inner, "]"); closed {
				e.setData(index+rest, values)
			}
		case e.Name == "" && !strings.HasPrefix(name, "auth["):
			e.setData(name, values)
		}
	}
	return e
}

// setData keeps a field of data, unless it holds a token, as it does of a chat
// bot too.
func (e *Event) setData(name string, values []string) {
	last := name[strings.LastIndex(name, "[")+1:]
	switch strings.TrimSuffix(last, "]") {
	case "access_token", "refresh_token", "application_token":
		return
	}
	e.Data[name] = values
}

// String names the event and its portal.
func (e *Event) String() string {
	if e == nil {
		return "<nil>"
	}
	return fmt.Sprintf("Event{name=%q member_id=%q}", redact.Shorten(e.Name), redact.Shorten(e.Grant.MemberID))
}

// Format implements [fmt.Formatter] for every verb, without the secrets.
func (e *Event) Format(f fmt.State, _ rune) { io.WriteString(f, e.String()) }

// LogValue implements [slog.LogValuer], without the secrets.
func (e *Event) LogValue() slog.Value { return slog.StringValue(e.String()) }
