package check

import (
	"encoding/json"
	"net/http"

	"github.com/b24go/b24oauth"
)

// Handler answers GET requests with the [Report] of a grant as JSON, such as
//
//	http.Handle("GET /test-bitrix24/token-refresh", admins(check.Handler(config, check.Options{Expire: true}, func(r *http.Request) string {
//		return r.FormValue("portal_id")
//	})))
//
// The status is 200 if the grant works, 409 if somebody has to act, and 502 if it
// will pass. The Report names the portal and its user, and a renewal costs an
// exchange: put the Handler behind the program's own authorization. An empty key
// is answered with 400.
func Handler(config *b24oauth.Config, o Options, keyOf func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		key := keyOf(r)
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", "GET")
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		if key == "" {
			http.Error(w, "the request names no grant", http.StatusBadRequest)
			return
		}
		report, err := Run(r.Context(), config, key, o)
		if err != nil {
			http.Error(w, "the check was not finished", http.StatusServiceUnavailable)
			return
		}
		status := http.StatusConflict
		switch {
		case report.OK:
			status = http.StatusOK
		case report.Who == Nobody:
			status = http.StatusBadGateway
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(report) // fails only if the client has gone
	})
}
