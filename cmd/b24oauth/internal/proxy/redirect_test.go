package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
)

func TestARedirectLeadsWhereAProgramCanGo(t *testing.T) {
	w := start(t)
	for _, test := range []struct{ name, location, want string }{
		{"to a method", w.Endpoint() + "download?id=7", "/rest/download?id=7"},
		{"to a method, without the host", "/rest/download?id=7", "/rest/download?id=7"},
		{"to a method, with the token", w.Endpoint() + "download?auth=" + w.grant.AccessToken + "&id=7", "/rest/download?id=7"},
		{"to a page of the portal", w.URL() + "/upload/7", w.URL() + "/upload/7"},
		{"to a page of the portal, without the host", "/upload/7", w.URL() + "/upload/7"},
		{"to another host, byte for byte", "HTTPS://files.example/7?x=%2f", "HTTPS://files.example/7?x=%2f"},
		{"to another host, without the scheme", "//files.example/7", "http://files.example/7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.RefuseNext(1, b24test.Answer{Status: 302, Header: http.Header{"Location": {test.location}}})
			resp, _ := w.do(t, "GET", "/rest/profile", nil)
			if got := resp.Header.Get("Location"); resp.StatusCode != 302 || got != test.want {
				t.Errorf("%d to %q, want %q", resp.StatusCode, got, test.want)
			}
		})
	}
}

func TestARenamedPortalIsFollowed(t *testing.T) {
	w := start(t)
	w.do(t, "GET", "/rest/profile", nil)
	w.Rename()
	if resp, body := w.do(t, "POST", "/rest/crm.deal.add", strings.NewReader("a=b")); resp.StatusCode != 200 || !strings.Contains(body, `"a":"b"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestAStreamToARenamedPortalIsAskedForAgain(t *testing.T) {
	w := start(t)
	w.Rename()
	stream := func() io.Reader { return io.MultiReader(strings.NewReader("a=b")) }
	resp, body := w.do(t, "POST", "/rest/crm.deal.add", stream())
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Location") != "" || !strings.Contains(body, "PORTAL_MOVED") {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if resp, body := w.do(t, "POST", "/rest/crm.deal.add", stream()); resp.StatusCode != 200 || !strings.Contains(body, `"a":"b"`) {
		t.Errorf("again: %d %s", resp.StatusCode, body)
	}
}

func TestAProgramIsNotSentToARenamedPortalByItself(t *testing.T) {
	w := start(t)
	w.ExpireAccessTokens()
	w.do(t, "GET", "/rest/profile", nil) // is followed by a renewal, and no other one is for a while
	w.Rename()
	resp, body := w.do(t, "POST", "/rest/crm.deal.add", strings.NewReader("a=b"))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Location") != "" || !strings.Contains(body, "PORTAL_MOVED") {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}
