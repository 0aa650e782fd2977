package sandbox

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
)

//go:embed page
var files embed.FS

var pageTemplate = template.Must(template.ParseFS(files, "page/page.html"))

// page shows the state as it is, which the page's script then keeps up to date.
func (s *Sandbox) page(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, struct {
		State
		Events []string
	}{s.state(), Events}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// A failure means that the browser has gone.
	_, _ = w.Write(b.Bytes())
}
