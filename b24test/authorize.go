package b24test

import (
	"html/template"
	"net/http"
)

// authorizePath is where the code flow sends a user's browser.
const authorizePath = "/oauth/authorize/"

// SetRedirect says which address stands in the application's card: to it the portal
// sends the browser of a user who has authorized the application, with a code. It is
// "" at first, and then the portal shows where it would send him.
func (s *Server) SetRedirect(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redirect = mustParse(address).String()
}

// unknownRedirect stands for the address in the card of an application that has none.
const unknownRedirect = "https://app.example/"

var landingTemplate = template.Must(template.New("landing").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Authorized</title>
<h1>The application is authorized</h1>
<p>A portal would now open the address in the application's card. This one knows of none, so copy it:</p>
<pre>{{.}}</pre>
</html>
`))

// serveAuthorize is a user, a new one each time, who agrees at once. As the real
// portal it reads nothing but client_id and state, and shows its errors itself.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != s.clientID {
		http.Error(w, "Application not found", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	address, host, authHost := s.redirect, s.host, s.authHost
	s.mu.Unlock()
	known := address != ""
	if !known {
		address = unknownRedirect
	}
	to := mustParse(address)
	back := to.Query()
	for name, value := range map[string]string{
		"code": s.Code(), "state": q.Get("state"), "domain": host, "member_id": s.memberID, "scope": scope, "server_domain": authHost,
	} {
		back.Set(name, value)
	}
	to.RawQuery = back.Encode()
	if known {
		http.Redirect(w, r, to.String(), http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = landingTemplate.Execute(w, to.String()) // fails only if the browser has gone
}
