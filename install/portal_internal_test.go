package install

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A name of a portal may lead to a private address, which only a connection tells.
func TestNoPortalIsSoughtAtAPrivateAddress(t *testing.T) {
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		http.Redirect(w, r, "https://evil.example/", http.StatusFound)
	}))
	defer server.Close()
	at := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for allowed, want := range map[bool]int{false: 0, true: 1} {
		reached = 0
		h := &Handler{client: portalClient(nil, allowed)}
		_, err := h.askUser(t.Context(), at+"/rest/", "the-access-token")
		if err == nil || !passes(err) || strings.Contains(err.Error(), "the-access-token") || reached != want {
			t.Errorf("allowed %t: %v, reached %d times", allowed, err, reached)
		}
		if !allowed && !strings.Contains(err.Error(), "AllowPrivate") {
			t.Errorf("%v does not say what to do", err)
		}
		h.client.CloseIdleConnections()
	}
}
