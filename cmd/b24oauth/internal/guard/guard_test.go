package guard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/guard"
)

const (
	home = "127.0.0.1:8024"
	form = "application/x-www-form-urlencoded"
)

func TestLoopbackPassesItsOwnAndRefusesForeignPages(t *testing.T) {
	handler := guard.Loopback(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), "192.0.2.7", "Devbox")
	for _, test := range []struct {
		name, method, host string
		header             map[string]string
		refused            string // the error code; "": passed
	}{
		{"curl", "POST", home, nil, ""},
		{"curl by name", "GET", "localhost:8024", nil, ""},
		{"curl by name without a port", "GET", "localhost", nil, ""},
		{"a name under localhost", "GET", "App.Localhost:8024", nil, ""},
		{"all of 127/8", "POST", "127.1.2.3:80", nil, ""},
		{"IPv6", "POST", "[::1]:8024", nil, ""},
		{"IPv6 without a port", "POST", "[::1]", nil, ""},
		{"IPv4 in IPv6", "POST", "[::ffff:127.0.0.1]:8024", nil, ""},
		{"a further address", "POST", "192.0.2.7:8024", nil, ""},
		{"a further name", "POST", "devbox:8024", nil, ""},

		{"a rebound name", "GET", "evil.example:8024", nil, "foreign_host"},
		{"a rebound name whose page is its own", "POST", "evil.example:8024", map[string]string{"Origin": "http://evil.example:8024", "Sec-Fetch-Site": "same-origin"}, "foreign_host"},
		{"a name that begins with an address", "GET", "127.0.0.1.evil.example", nil, "foreign_host"},
		{"a name that ends like localhost", "GET", "notlocalhost", nil, "foreign_host"},
		{"the address that stands for all", "GET", "0.0.0.0:8024", nil, "foreign_host"},
		{"no host", "GET", "", nil, "foreign_host"},

		{"the server's own page", "POST", home, map[string]string{"Origin": "http://" + home, "Sec-Fetch-Site": "same-origin"}, ""},
		{"the server's own page in an old browser", "POST", home, map[string]string{"Origin": "http://" + home}, ""},
		{"typed into the browser", "GET", home, map[string]string{"Sec-Fetch-Site": "none"}, ""},
		{"another site's script", "POST", home, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "foreign_origin"},
		{"another site's script in an old browser", "POST", home, map[string]string{"Origin": "https://evil.example"}, "foreign_origin"},
		{"another port's form", "POST", home, map[string]string{"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site", "Content-Type": form}, "foreign_origin"},
		{"another port's form in an old browser", "POST", home, map[string]string{"Origin": "http://127.0.0.1:3000", "Content-Type": form}, "foreign_origin"},
		{"localhost is another origin than 127.0.0.1", "POST", home, map[string]string{"Origin": "http://localhost:8024"}, "foreign_origin"},
		{"a sandboxed frame", "POST", home, map[string]string{"Origin": "null"}, "foreign_origin"},
		{"a sandboxed frame of today", "POST", home, map[string]string{"Origin": "null", "Sec-Fetch-Site": "cross-site"}, "foreign_origin"},
		{"another site's image", "GET", home, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, "foreign_origin"},
		{"another port's fetch", "GET", home, map[string]string{"Sec-Fetch-Site": "same-site"}, "foreign_origin"},
		{"a preflight", "OPTIONS", home, map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, "foreign_origin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "/", strings.NewReader("n=1"))
			r.Host = test.host
			for name, value := range test.header {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)

			if test.refused == "" {
				if w.Code != http.StatusNoContent {
					t.Errorf("it was answered %d %s", w.Code, w.Body)
				}
				return
			}
			var answer struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatalf("%d %q: %v", w.Code, w.Body, err)
			}
			if w.Code != http.StatusForbidden || answer.Error != test.refused || answer.Description == "" {
				t.Errorf("it was answered %d %s, want 403 %s", w.Code, w.Body, test.refused)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("another origin may read the answer")
			}
		})
	}
}

func TestLoopbackLeavesTheRequestAsItIs(t *testing.T) {
	var method string
	handler := guard.Loopback(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { method = r.Method }))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://localhost/", nil))
	if method != "GET" {
		t.Errorf("the handler sees a %s", method)
	}
}

func TestSameOriginIsAskedByAnyNameAndRefusesForeignPages(t *testing.T) {
	handler := guard.SameOrigin(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, test := range []struct {
		name, origin, site string
		want               int
	}{
		{"a program", "", "", http.StatusNoContent},
		{"another site's script", "https://evil.example", "cross-site", http.StatusForbidden},
		{"another site's script in an old browser", "https://evil.example", "", http.StatusForbidden},
		{"a sandboxed frame", "null", "", http.StatusForbidden},
	} {
		for _, method := range []string{"GET", "POST"} {
			r := httptest.NewRequest(method, "http://proxy.example:8025/", nil)
			if test.origin != "" {
				r.Header.Set("Origin", test.origin)
			}
			if test.site != "" {
				r.Header.Set("Sec-Fetch-Site", test.site)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%s by %s was answered %d %s", method, test.name, w.Code, w.Body)
			}
		}
	}
}
