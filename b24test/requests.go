package b24test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
)

// The requests that Bitrix24 sends to an application, for its handlers: give one
// to ServeHTTP or to an http.Client. What stands in them is the grant's, so a
// forgery is a grant with a field of another one.

// InstallRequest is the POST with which an administrator's browser opens the
// application's install page, for a new installation: [Server.FrameRequest] of
// [Server.Install].
func (s *Server) InstallRequest(target string) *http.Request {
	return s.FrameRequest(target, s.Install())
}

// FrameRequest is the POST with which a user's browser opens a page of the
// application in a frame, at target, an address of the application. It brings the
// pair of that user and no user's number.
func (s *Server) FrameRequest(target string, g *b24oauth.Grant) *http.Request {
	portal := mustParse(g.ClientEndpoint)
	protocol := "1"
	if portal.Scheme == "http" {
		protocol = "0"
	}
	u := mustParse(target)
	query := u.Query()
	for name, value := range map[string]string{"DOMAIN": portal.Host, "PROTOCOL": protocol, "LANG": "en", "APP_SID": randomHex(16)} {
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	return formRequest(u.String(), url.Values{
		"AUTH_ID":           {g.AccessToken},
		"AUTH_EXPIRES":      {seconds(g)},
		"REFRESH_ID":        {g.RefreshToken},
		"SERVER_ENDPOINT":   {g.ServerEndpoint},
		"APPLICATION_TOKEN": {g.ApplicationToken},
		"APPLICATION_SCOPE": {g.Scope},
		"member_id":         {g.MemberID},
		"status":            {g.Status},
		"PLACEMENT":         {"DEFAULT"},
		"PLACEMENT_OPTIONS": {`{"any":"1/"}`},
	})
}

// EventRequest is the POST of an event, such as ONCRMDEALADD, to a handler at
// target. data are its fields by what stands in the brackets: FIELDS[ID] for
// data[FIELDS][ID]; nil if it has none. As Bitrix24 does, ONAPPINSTALL, ONAPPUPDATE,
// ONSUBSCRIPTIONRENEW, ONAPPTEST and ONOFFLINEEVENT bring the pair of g,
// ONAPPUNINSTALL and ONAPPMETHODCONFIRM no token, and all others the access token.
func (s *Server) EventRequest(target, name string, g *b24oauth.Grant, data url.Values) *http.Request {
	form := authFields(g)
	switch name = strings.ToUpper(name); name {
	case "ONAPPINSTALL", "ONAPPUPDATE", "ONSUBSCRIPTIONRENEW", "ONAPPTEST", "ONOFFLINEEVENT":
	case "ONAPPUNINSTALL", "ONAPPMETHODCONFIRM":
		for _, gone := range []string{"access_token", "refresh_token", "expires_in", "user_id"} {
			form.Del("auth[" + gone + "]")
		}
	default:
		form.Del("auth[refresh_token]")
	}
	form.Set("event", name)
	form.Set("event_handler_id", "1")
	form.Set("ts", strconv.FormatInt(time.Now().Unix(), 10))
	for field, values := range data {
		base, rest, _ := strings.Cut(field, "[")
		if rest != "" {
			rest = "[" + rest
		}
		form["data["+base+"]"+rest] = values
	}
	return formRequest(target, form)
}

// UserReadyRequest is the POST of ONAPPUSERREADY: the pair of the system user, for
// whom the application is to work without an employee, in data, beside that of the
// installer in auth.
func (s *Server) UserReadyRequest(target string, installer, system *b24oauth.Grant) *http.Request {
	return s.EventRequest(target, "ONAPPUSERREADY", installer, url.Values{
		"access_token":  {system.AccessToken},
		"refresh_token": {system.RefreshToken},
		"expires_in":    {seconds(system)},
		"user_id":       {strconv.FormatInt(system.UserID, 10)},
		"client_id":     {system.ClientID},
	})
}

// RobotRequest is the POST with which a robot or a workflow's activity of that
// code calls a handler at target. It brings the pair of the robot's user.
func (s *Server) RobotRequest(target, code string, g *b24oauth.Grant) *http.Request {
	form := authFields(g)
	form.Set("workflow_id", randomHex(16))
	form.Set("code", code)
	form.Set("event_token", randomHex(16))
	form.Set("document_id[0]", "crm")
	form.Set("document_id[1]", "CCrmDocumentDeal")
	form.Set("document_id[2]", "DEAL_1")
	form.Set("ts", strconv.FormatInt(time.Now().Unix(), 10))
	return formRequest(target, form)
}

// authFields are the fields of auth[…] with all that a grant has.
func authFields(g *b24oauth.Grant) url.Values {
	portal := mustParse(g.ClientEndpoint)
	form := make(url.Values)
	for name, value := range map[string]string{
		"access_token":      g.AccessToken,
		"refresh_token":     g.RefreshToken,
		"expires_in":        seconds(g),
		"domain":            portal.Host,
		"server_endpoint":   g.ServerEndpoint,
		"client_endpoint":   g.ClientEndpoint,
		"member_id":         g.MemberID,
		"status":            g.Status,
		"scope":             g.Scope,
		"application_token": g.ApplicationToken,
	} {
		form.Set("auth["+name+"]", value)
	}
	if g.UserID != 0 {
		form.Set("auth[user_id]", strconv.FormatInt(g.UserID, 10))
	}
	return form
}

// seconds is how long the access token lives on, as a request says it.
func seconds(g *b24oauth.Grant) string {
	return strconv.FormatInt(int64(time.Until(g.Expiry).Round(time.Second)/time.Second), 10)
}

func formRequest(target string, form url.Values) *http.Request {
	r, err := http.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		panic(fmt.Sprintf("b24test: the address %q: %v", target, err))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// mustParse parses an address that the test has given.
func mustParse(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic(fmt.Sprintf("b24test: the address %q: %v", address, err))
	}
	return u
}
