package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/b24go/b24oauth/b24test"
)

// sandbox is a portal on loopback, for who has no account. A real one does by itself
// what its two handlers do.
type sandbox struct {
	*b24test.Server
	mu    sync.Mutex // guards what follows
	deals []deal
}

type deal struct{ ID, TITLE string }

func startSandbox() *sandbox {
	s := &sandbox{Server: b24test.NewServer()}
	s.add("A first deal")
	s.add("<b>A second one</b>")
	return s
}

// add has the portal list one more deal, and returns its id.
func (s *sandbox) add(title string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprint(len(s.deals) + 1)
	s.deals = append(s.deals, deal{id, title})
	body, err := json.Marshal(map[string]any{"result": s.deals, "total": len(s.deals)})
	if err != nil {
		panic(err) // texts can be marshalled
	}
	s.On("crm.deal.list", b24test.Answer{Status: http.StatusOK, Body: string(body)})
	return id
}

// open tells where the portal shows the application, which is at app, and how
// to make happen what happens in a portal.
func (s *sandbox) open(mux *http.ServeMux, app string, tell func(string)) {
	s.SetInstalled(false)
	g := s.Install()
	tell(s.ShowFrame(app, g))
	tell("Open this in a browser. What happens in a portal, from another terminal:")
	base := strings.TrimSuffix(app, "bitrix")
	here := base + "sandbox/"
	tell("  curl -X POST " + here + "expire   # every access token ends")
	tell("  curl -X POST " + here + "deal     # somebody adds a deal, and the application hears of it")
	tell("Whether the portal's grant works:")
	tell("  curl " + base + "test-bitrix24/token-refresh?portal_id=" + g.MemberID)
	mux.HandleFunc("POST /sandbox/expire", func(w http.ResponseWriter, _ *http.Request) {
		s.ExpireAccessTokens()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /sandbox/deal", func(w http.ResponseWriter, r *http.Request) {
		id := s.add("A new deal")
		event := s.EventRequest(app, "ONCRMDEALADD", s.Employee(), url.Values{"FIELDS[ID]": {id}})
		resp, err := s.Client().Do(event.WithContext(r.Context()))
		if err != nil {
			slog.Error("sandbox: the application does not take the event", "error", err)
			http.Error(w, "the application does not take the event", http.StatusBadGateway)
			return
		}
		resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
	})
}
