package sandbox_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

func TestTriggerSendsWhatBitrix24Would(t *testing.T) {
	address, received := program(t, http.StatusOK, "fine")
	for _, test := range []struct {
		event string
		has   map[string]string // "*": anything
		lacks []string
	}{
		{"onappinstall", map[string]string{"event": "ONAPPINSTALL", "auth[refresh_token]": "*", "auth[application_token]": "*", "data[VERSION]": "1"}, nil},
		{"ONAPPUPDATE", map[string]string{"event": "ONAPPUPDATE", "auth[refresh_token]": "*", "data[PREVIOUS_VERSION]": "1"}, nil},
		{"ONAPPUSERREADY", map[string]string{"data[access_token]": "*", "data[refresh_token]": "*", "data[user_id]": "2"}, nil},
		{"ONCRMDEALADD", map[string]string{"event": "ONCRMDEALADD", "auth[access_token]": "*", "data[FIELDS][ID]": "1"}, []string{"auth[refresh_token]"}},
		{"ONSOMETHINGNEW", map[string]string{"event": "ONSOMETHINGNEW", "auth[access_token]": "*"}, []string{"data[FIELDS][ID]"}},
		{"robot", map[string]string{"workflow_id": "*", "code": "sandbox", "auth[refresh_token]": "*"}, []string{"event"}},
		{"Frame", map[string]string{"AUTH_ID": "*", "REFRESH_ID": "*", "DOMAIN": "*", "PLACEMENT": "DEFAULT"}, []string{"event"}},
		{"ONAPPUNINSTALL", map[string]string{"event": "ONAPPUNINSTALL", "auth[application_token]": "*", "data[CLEAN]": "0"}, []string{"auth[access_token]"}},
	} {
		t.Run(test.event, func(t *testing.T) {
			f := open(t)
			f.Install()
			var outcome sandbox.Outcome
			f.post("trigger", url.Values{"event": {test.event}, "forward_to": {address}}, &outcome)
			if outcome.Status != http.StatusOK || outcome.Body != "fine" || outcome.ForwardTo != address || outcome.Event != sandbox.Known(test.event) || outcome.Milliseconds <= 0 {
				t.Errorf("outcome: %+v", outcome)
			}
			r := <-received
			for name, want := range test.has {
				if got := r.Form.Get(name); got == "" || want != "*" && got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			for _, name := range test.lacks {
				if r.Form.Has(name) {
					t.Errorf("%s is %q, but it does not come with this", name, r.Form.Get(name))
				}
			}
		})
	}
}

func TestTriggerPassesData(t *testing.T) {
	f := open(t)
	f.Install()
	address, received := program(t, http.StatusOK, "")
	f.post("trigger", url.Values{"event": {"ONCRMDEALADD"}, "forward_to": {address}, "data[FIELDS][ID]": {"7"}, "data[note]": {"a b"}}, &sandbox.Outcome{})
	r := <-received
	expect(t, "data[FIELDS][ID]", r.Form.Get("data[FIELDS][ID]"), "7")
	expect(t, "data[note]", r.Form.Get("data[note]"), "a b")
}

func TestWhatAnEventBringsWorksAndTakesNothingFromOthers(t *testing.T) {
	f := open(t)
	first := f.Install()
	address, received := program(t, http.StatusOK, "")
	f.post("trigger", url.Values{"event": {"robot"}, "forward_to": {address}}, &sandbox.Outcome{})
	form := (<-received).Form
	brought := sandbox.Grant{AccessToken: form.Get("auth[access_token]"), RefreshToken: form.Get("auth[refresh_token]")}
	expect(t, "a call with what the robot brings", f.call(brought), "200")
	expect(t, "its refresh", f.renew(brought), "200")
	expect(t, "the refresh of the grant that was there before", f.renew(first), "200")
}

func TestAfterAnUninstallationNothingWorksUntilTheNextInstallation(t *testing.T) {
	f := open(t)
	g := f.Install()
	address, received := program(t, http.StatusOK, "")
	event := func(name string) answer {
		return f.post("trigger", url.Values{"event": {name}, "forward_to": {address}}, nil)
	}
	event("ONAPPUNINSTALL")
	<-received
	expect(t, "a call", f.call(g), "401 invalid_token")
	expect(t, "an event", f.outcome(event("ONCRMDEALADD")), "400 not_installed")
	expect(t, "an installation", f.outcome(event("ONAPPINSTALL")), "200")
	expect(t, "an event after it", f.outcome(event("ONCRMDEALADD")), "200")
}

func TestTriggerTellsWhatAProgramAnswersThatFails(t *testing.T) {
	f := open(t)
	f.Install()
	for _, status := range []int{302, 500} {
		address, _ := program(t, status, strings.Repeat("x", 5000))
		var outcome sandbox.Outcome
		f.post("trigger", url.Values{"event": {"ONTASKADD"}, "forward_to": {address}}, &outcome)
		if outcome.Status != status || len(outcome.Body) != 2048 {
			t.Errorf("%d, %d bytes; want %d and the first 2048", outcome.Status, len(outcome.Body), status)
		}
	}
}

func TestAProgramThatDoesNotRunIsNamed(t *testing.T) {
	f := open(t)
	f.Install()
	address := f.server.URL() // free once the portal there is closed
	other := open(t)
	other.Install()
	f.server.Close()
	a := other.post("trigger", url.Values{"event": {"ONTASKADD"}, "forward_to": {address + "/bitrix"}}, nil)
	expect(t, "a program that does not run", other.outcome(a), "502 unreachable")
	if !strings.Contains(a.body, address) || !strings.Contains(a.body, "Start it") {
		t.Errorf("it does not say what to do: %s", a.body)
	}
}
