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

// What the portal will say again is no reason to wait.
func TestARefusalOfThePortalIsFinal(t *testing.T) {
	for body, c := range map[string]struct {
		status int
		passes bool
	}{
		`{"error":"insufficient_scope"}`:                    {401, false},
		`{"error":"ACCESS_DENIED","error_description":"x"}`: {403, false},
		`{"error":"QUERY_LIMIT_EXCEEDED"}`:                  {503, true},
		`{"error":"OPERATION_TIME_LIMIT"}`:                  {429, true},
		`{"error":"CONNECTION_ERROR"}`:                      {401, true},
		`{"error":{"code":"BITRIX_REST_V3_EXCEPTION_X"}}`:   {400, true},
		`<html>`: {502, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			w.Write([]byte(body))
		}))
		h := &Handler{client: server.Client()}
		_, err := h.askUser(t.Context(), server.URL+"/rest/", "the-access-token")
		if err == nil || passes(err) != c.passes {
			t.Errorf("%d %s: %v passes: %t", c.status, body, err, passes(err))
		}
		server.Close()
	}
}
