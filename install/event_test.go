package install_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/install"
	"github.com/b24go/b24oauth/internal/canary"
)

const handler = "https://app.example.com/bitrix"

var (
	anyPortal = install.Reader{AllowPrivate: true}
	inTime    = cmp.Options{cmpopts.EquateApproxTime(2 * time.Second), cmpopts.EquateEmpty()}
)

func newServer(t testing.TB) *b24test.Server {
	t.Helper()
	srv := b24test.NewMemoryServer()
	t.Cleanup(srv.Close)
	return srv
}

func TestEveryRequestThatBringsAPairIsRead(t *testing.T) {
	srv := newServer(t)
	installer, system := srv.Install(), srv.Install()
	asFrame := *installer
	asFrame.ClientID, asFrame.UserID = "", 0 // a frame does not say
	asEvent := *installer
	asEvent.ClientID = ""
	for name, c := range map[string]struct {
		request *http.Request
		want    *b24oauth.Grant
	}{
		"frame":                {srv.FrameRequest(handler+"?page=1", installer), &asFrame},
		"ONAPPINSTALL":         {srv.EventRequest(handler, "ONAPPINSTALL", installer, nil), &asEvent},
		"ONAPPUPDATE":          {srv.EventRequest(handler, "OnAppUpdate", installer, nil), &asEvent},
		"ONSUBSCRIPTIONRENEW":  {srv.EventRequest(handler, "ONSUBSCRIPTIONRENEW", installer, nil), &asEvent},
		"ONAPPTEST":            {srv.EventRequest(handler, "ONAPPTEST", installer, nil), &asEvent},
		"ONAPPUSERREADY":       {srv.UserReadyRequest(handler, installer, system), system},
		"ONAPPUNINSTALL":       {srv.EventRequest(handler, "ONAPPUNINSTALL", installer, nil), nil},
		"ONOFFLINEEVENT":       {srv.EventRequest(handler, "ONOFFLINEEVENT", installer, nil), nil},
		"ONCRMDEALADD":         {srv.EventRequest(handler, "ONCRMDEALADD", installer, nil), nil},
		"a robot":              {srv.RobotRequest(handler, "my_robot", installer), nil},
		"a frame with no user": {srv.FrameRequest(handler, &b24oauth.Grant{MemberID: "m", ClientEndpoint: "https://example.bitrix24.com/rest/"}), nil},
	} {
		got, err := anyPortal.ReadGrant(c.request)
		if c.want == nil {
			if got != nil || err == nil || !strings.Contains(err.Error(), "no pair of tokens") {
				t.Errorf("%s: %v, %v; want no pair", name, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, inTime); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReadEvent(t *testing.T) {
	srv := newServer(t)
	g, system := srv.Install(), srv.Install()
	acting := *g
	acting.ClientID, acting.RefreshToken = "", ""
	nobody := acting
	nobody.AccessToken, nobody.UserID = "", 0
	whole := *g
	whole.ClientID = ""
	for name, c := range map[string]struct {
		request *http.Request
		want    install.Event
	}{
		"of a CRM": {srv.EventRequest(handler, "onCrmDealAdd", g, url.Values{"FIELDS[ID]": {"17"}}), install.Event{
			Name: "ONCRMDEALADD", Grant: &acting, Data: url.Values{"FIELDS[ID]": {"17"}},
		}},
		"an uninstallation": {srv.EventRequest(handler, "ONAPPUNINSTALL", g, url.Values{"CLEAN": {"1"}}), install.Event{
			Name: "ONAPPUNINSTALL", Grant: &nobody, Data: url.Values{"CLEAN": {"1"}},
		}},
		"a system user": {srv.UserReadyRequest(handler, g, system), install.Event{
			Name: "ONAPPUSERREADY", Grant: system, Data: url.Values{"user_id": {fmt.Sprint(system.UserID)}, "client_id": {system.ClientID}, "expires_in": {"3600"}},
		}},
		"a bot's": {srv.EventRequest(handler, "ONIMBOTMESSAGEADD", g, url.Values{"BOT[39][AUTH][access_token]": {"of the bot"}, "BOT[39][AUTH][application_token]": {"x"}, "BOT[39][BOT_ID]": {"39"}}), install.Event{
			Name: "ONIMBOTMESSAGEADD", Grant: &acting, Data: url.Values{"BOT[39][BOT_ID]": {"39"}},
		}},
		"a robot": {srv.RobotRequest(handler, "my_robot", g), install.Event{
			Grant: &whole, Data: url.Values{"code": {"my_robot"}, "document_id[2]": {"DEAL_1"}},
		}},
	} {
		got, err := anyPortal.ReadEvent(c.request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "a robot" {
			for field := range got.Data {
				if c.want.Data[field] == nil {
					delete(got.Data, field)
				}
			}
		} else if time.Since(got.Time).Abs() > time.Minute {
			t.Errorf("%s: at %v", name, got.Time)
		}
		c.want.Time = got.Time
		if diff := cmp.Diff(&c.want, got, inTime); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// PHP takes the last of two fields of one name and net/http the first, so one who
// checks and one who uses them would not see the same.
func TestAFieldThatComesTwiceIsAnError(t *testing.T) {
	srv := newServer(t)
	g := srv.Install()
	for _, field := range []string{"AUTH_ID", "REFRESH_ID", "member_id", "SERVER_ENDPOINT", "APPLICATION_TOKEN"} {
		r := srv.FrameRequest(handler, g)
		if _, err := anyPortal.ReadGrant(again(r, field)); err == nil || !strings.Contains(err.Error(), field+" twice") {
			t.Errorf("frame with %s: %v", field, err)
		}
	}
	r := srv.FrameRequest(handler, g)
	r.URL.RawQuery += "&DOMAIN=evil.example"
	if _, err := anyPortal.ReadGrant(r); err == nil || !strings.Contains(err.Error(), "DOMAIN twice") {
		t.Errorf("frame with two domains: %v", err)
	}
	for _, field := range []string{"event", "ts", "auth[access_token]", "auth[member_id]", "auth[client_endpoint]", "auth[application_token]", "auth[user_id]"} {
		r := srv.EventRequest(handler, "ONAPPINSTALL", g, nil)
		if _, err := anyPortal.ReadEvent(again(r, field)); err == nil || !strings.Contains(err.Error(), field+" twice") {
			t.Errorf("event with %s: %v", field, err)
		}
	}
}

// again returns the request with a field once more.
func again(r *http.Request, field string) *http.Request {
	if err := r.ParseForm(); err != nil {
		panic(err)
	}
	form := r.PostForm
	form.Add(field, "s3cret")
	out := request(r.URL.RawQuery, form.Encode())
	return out
}

func TestReadEventRefusesOtherRequests(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"nothing":            {"", "neither the field event"},
		"a frame":            {"AUTH_ID=s3cret&REFRESH_ID=s3cret&member_id=m", "neither the field event"},
		"a private portal":   {"event=ONCRMDEALADD&auth[client_endpoint]=http://127.0.0.1/rest/", "AllowPrivate"},
		"damaged":            {"event=ONCRMDEALADD&s3cret=%zz", "damaged"},
		"larger than a Mebi": {"event=ONCRMDEALADD&data[X]=" + strings.Repeat("s3cret", 1<<18), "larger than 1024 KiB"},
		"an endless name":    {strings.Repeat("s3cret", 1000) + "=1", "neither the field event"},
	} {
		e, err := install.ReadEvent(request("", c.body))
		if e != nil || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 300 {
			t.Errorf("%s: %v, %v; want an error that says %q", name, e, err, c.want)
		}
	}
}

func TestAnEventDoesNotTellItsSecrets(t *testing.T) {
	body := url.Values{"event": {"ONAPPINSTALL"}, "auth[member_id]": {"member"}, "auth[access_token]": {"the-access-token"}, "auth[refresh_token]": {"the-refresh-token"}, "auth[application_token]": {"the-application-token"}, "data[TOKEN]": {"the-token-of-a-method"}}
	e, err := install.ReadEvent(request("", body.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	canary.Of("the-access-token", "the-refresh-token", "the-application-token", "the-token-of-a-method").Check(t, "the event", canary.Value("it", e))
}

func FuzzReadEvent(f *testing.F) {
	srv := newServer(f)
	g := srv.Install()
	for _, r := range []*http.Request{srv.EventRequest(handler, "ONCRMDEALADD", g, url.Values{"FIELDS[ID]": {"1"}}), srv.UserReadyRequest(handler, g, g), srv.RobotRequest(handler, "code", g)} {
		if err := r.ParseForm(); err != nil {
			f.Fatal(err)
		}
		f.Add(r.PostForm.Encode())
	}
	f.Add("event=x&data[=1&data[]=2&data[a]b]=3&auth[user_id]=-1&ts=99999999999999999999")
	f.Fuzz(func(t *testing.T, body string) {
		e, err := install.ReadEvent(request("", body))
		switch {
		case (e == nil) == (err == nil):
			t.Fatalf("%v, %v", e, err)
		case err != nil:
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		case e.Grant == nil || e.Name != strings.ToUpper(e.Name) || e.Name == "" && e.Grant.MemberID == "":
			t.Errorf("%+v", e)
		}
	})
}
