package b24test

import (
	"fmt"
	"html/template"
	"net/http"

	"github.com/b24go/b24oauth"
)

// Where the portal's pages for a browser are.
const (
	framePath  = "/b24test/frame/"
	scriptPath = "/b24test/bx24.js"
	finishPath = "/b24test/installed"
)

// ShowFrame returns the address of a page of the portal that opens the
// application's page at target in a frame, as the portal does for the user of g:
// by a form that his browser posts into it. It stays until the Server is closed.
func (s *Server) ShowFrame(target string, g *b24oauth.Grant) (page string) {
	r := s.FrameRequest(target, g)
	if err := r.ParseForm(); err != nil {
		panic("b24test: " + err.Error()) // it was just made
	}
	fields := make(map[string]string)
	for name := range r.PostForm {
		fields[name] = r.PostForm.Get(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frames == nil {
		s.frames = make(map[string]frame)
	}
	path := framePath + randomHex(8)
	s.frames[path] = frame{r.URL.String(), fields}
	return "http://" + s.host + path
}

// ScriptURL is where a page gets the Server's stand-in for Bitrix24's BX24 from:
// init and installFinish, which is [Server.SetInstalled].
func (s *Server) ScriptURL() string { return s.URL() + scriptPath }

// Handle serves pattern, which is one of [http.ServeMux.Handle], by h at every
// address that the portal has or had, before anything else that it serves there.
// These requests are in no log and [Server.Watch] does not tell of them.
func (s *Server) Handle(pattern string, h http.Handler) { s.pages.Handle(pattern, h) }

// frame is what a page of ShowFrame posts.
type frame struct {
	Target string
	Fields map[string]string
}

var frameTemplate = template.Must(template.New("frame").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Portal</title>
<iframe name="application" width="800" height="400"></iframe>
<form method="post" action="{{.Target}}" target="application">
{{range $name, $value := .Fields}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}</form>
<script>document.forms[0].submit();</script>
</html>
`))

// script is the stand-in for BX24, but for the address of finishPath.
const script = `var BX24 = {
	init: function (ready) {
		if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ready);
		else ready();
	},
	installFinish: function () {
		fetch(%q, {method: "POST", mode: "no-cors", keepalive: true});
	}
};
`

// servePage answers a browser that shows the portal. It is false if the request
// is for none of its pages.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	page, shown := s.frames[r.URL.Path]
	s.mu.Unlock()
	switch {
	case shown:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = frameTemplate.Execute(w, page) // fails only if the browser has gone
	case r.URL.Path == authorizePath && r.Method == http.MethodGet:
		s.serveAuthorize(w, r)
	case r.URL.Path == scriptPath:
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		fmt.Fprintf(w, script, s.URL()+finishPath)
	case r.URL.Path == finishPath && r.Method == http.MethodPost:
		s.SetInstalled(true)
		w.WriteHeader(http.StatusNoContent)
	default:
		return false
	}
	return true
}
