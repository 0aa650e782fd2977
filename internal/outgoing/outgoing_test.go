package outgoing_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
)

const portal = "portal.example"

// watched is a body without GetBody that counts its closings.
type watched struct {
	io.Reader
	closed int
}

func (w *watched) Close() error { w.closed++; return nil }

func post(t *testing.T, contentType string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://former.example/rest/m?a=1&auth=stale", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer stale")
	return req
}

// sent is what of an attempt a portal sees.
type sent struct{ URL, Host, Authorization, Body string }

func see(t *testing.T, req *http.Request) sent {
	t.Helper()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	if req.ContentLength > 0 && req.ContentLength != int64(len(body)) {
		t.Errorf("ContentLength is %d for %d bytes", req.ContentLength, len(body))
	}
	return sent{req.URL.String(), req.Host, req.Header.Get("Authorization"), string(body)}
}

func TestTokenIsInsertedInOnePlace(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		placement               outgoing.Placement
		want                    sent
	}{
		{"form", formType, "b=2", outgoing.Auto, sent{Host: portal, URL: "https://portal.example/rest/m?a=1", Body: "auth=token&b=2"}},
		{"JSON", jsonType, `{"b":2}`, outgoing.Auto, sent{Host: portal, URL: "https://portal.example/rest/m?a=1", Body: `{"b":2,"auth":"token"}`}},
		{"JSON that is no object", jsonType, `[2]`, outgoing.Auto, sent{Host: portal, URL: "https://portal.example/rest/m?auth=token&a=1", Body: `[2]`}},
		{"query", formType, "b=2", outgoing.Query, sent{Host: portal, URL: "https://portal.example/rest/m?auth=token&a=1", Body: "b=2"}},
		{"header", formType, "b=2", outgoing.Header, sent{Host: portal, URL: "https://portal.example/rest/m?a=1", Authorization: "Bearer token", Body: "b=2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := post(t, c.contentType, strings.NewReader(c.body))
			var r outgoing.Request
			r.Init(req, c.placement, false)
			defer r.Finish()
			out, err := r.Prepare(outgoing.NewToken("token"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
			if err != nil {
				t.Fatal(err)
			}
			got := see(t, out)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if req.URL.Host != "former.example" || req.Header.Get("Authorization") != "Bearer stale" {
				t.Error("the caller's request was changed")
			}
		})
	}
}

func TestSecondAttemptHasTheBodyAgain(t *testing.T) {
	req := post(t, "application/x-www-form-urlencoded", strings.NewReader("b=2"))
	var r outgoing.Request
	r.Init(req, outgoing.Auto, false)
	defer r.Finish()
	for _, token := range []string{"first", "second"} {
		out, err := r.Prepare(outgoing.NewToken(token), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
		if err != nil {
			t.Fatal(err)
		}
		if got := see(t, out).Body; got != "auth="+token+"&b=2" {
			t.Errorf("the attempt sends %q", got)
		}
		if !r.Again() {
			t.Error("a body with GetBody cannot be sent again")
		}
	}
}

func TestBodyWithoutGetBodyIsSentAgainOnlyIfNobodyReadIt(t *testing.T) {
	for _, read := range []bool{false, true} {
		body := &watched{Reader: strings.NewReader("b=2")}
		var r outgoing.Request
		r.Init(post(t, "text/plain", body), outgoing.Auto, false)
		first, err := r.Prepare(outgoing.NewToken("first"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
		if err != nil {
			t.Fatal(err)
		}
		if read {
			see(t, first)
		}
		first.Body.Close()
		if again := r.Again(); again == read {
			t.Errorf("read %v, and sent again %v", read, again)
		}
		if !read {
			second, err := r.Prepare(outgoing.NewToken("second"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := first.Body.Read(make([]byte, 1)); err == nil {
				t.Error("the first attempt still reads the body")
			}
			if got := see(t, second).Body; got != "b=2" {
				t.Errorf("the second attempt sends %q", got)
			}
			second.Body.Close()
		}
		r.Finish()
		if body.closed != 1 {
			t.Errorf("the body was closed %d times", body.closed)
		}
	}
}

func TestBodyThatWasNeverSentIsClosed(t *testing.T) {
	broken := errors.New("broken")
	body := &watched{Reader: iotest.ErrReader(broken)}
	var r outgoing.Request
	r.Init(post(t, "application/json", body), outgoing.Auto, false)
	if _, err := r.Prepare(outgoing.NewToken("token"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath}); !errors.Is(err, broken) {
		t.Errorf("Prepare: %v", err)
	}
	r.Finish()
	outgoing.CloseBody(&http.Request{})
	if body.closed != 1 {
		t.Errorf("the body was closed %d times", body.closed)
	}
}

func TestHostIsThePortalsWhateverTheCallerSays(t *testing.T) {
	to := address.Portal{Scheme: "https", Host: portal, Path: address.RestPath}
	for _, c := range []struct{ url, opaque, want string }{
		{"https://portal.example/rest/m", "", "/rest/m?auth=token"},
		{"https://portal.example/rest/m", "/rest/%6d", "/rest/%6d?auth=token"},
		{"https://portal.example/rest/m?a=1", "/rest/%6d", "/rest/%6d?auth=token&a=1"},
		{"https://portal.example/", "/rest/%6d?a=1&auth=stale", "/rest/%6d?auth=token&a=1"},
		{"https://portal.example/", "//evil.example/rest/m", "/rest/m?auth=token"},
		{"https://portal.example/", "//portal.example/rest/m", "/rest/m?auth=token"},
		{"https://portal.example/", "http://evil.example/rest/m", "/rest/m?auth=token"},
		{"https://portal.example/", "ftp://evil.example", "/?auth=token"},
		{"https://portal.example/", "//portal.example//evil.example/m", "https://portal.example//evil.example/m?auth=token"},
		{"https://portal.example/", "evil.example/m", "/evil.example/m?auth=token"},
		{"https://former.example/", "//former.example/rest/m", "/rest/m?auth=token"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque, req.Host = c.opaque, "evil.example"
		req.Header = http.Header{"Host": {"evil.example"}, "host": {"evil.example"}, "content-length": {"3"}, "A": {"b"}}
		before := *req.URL
		var r outgoing.Request
		r.Init(req, outgoing.Auto, false)
		out, err := r.Prepare(outgoing.NewToken("token"), to)
		r.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if out.URL.RequestURI() != c.want || out.URL.Host != portal || out.Host != portal {
			t.Errorf("%s, %s: %s at %s as %s, want %s", c.url, c.opaque, out.URL.RequestURI(), out.URL.Host, out.Host, c.want)
		}
		if diff := cmp.Diff(http.Header{"A": {"b"}}, out.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if *req.URL != before || req.Host != "evil.example" || len(req.Header) != 4 {
			t.Error("the caller's request was changed")
		}
	}
}

func TestHeaderNamesAreReadInAnyCase(t *testing.T) {
	for name, c := range map[string]struct {
		header    http.Header
		placement outgoing.Placement
		want      http.Header
		body      string
	}{
		"a Bearer":                   {header: http.Header{"authorization": {"Bearer x"}}, want: http.Header{}, body: "{}"},
		"a Bearer in capitals":       {header: http.Header{"AUTHORIZATION": {"bearer x"}}, want: http.Header{}, body: "{}"},
		"a Bearer after white space": {header: http.Header{"Authorization": {" \tBearer x"}}, want: http.Header{}, body: "{}"},
		"a Bearer beside another":    {header: http.Header{"Authorization": {"Basic x"}, "authorization": {"Bearer x"}}, want: http.Header{}, body: "{}"},
		"another authorization":      {header: http.Header{"authorization": {"Basic x"}}, want: http.Header{"authorization": {"Basic x"}}, body: "{}"},
		"another, and ours":          {header: http.Header{"authorization": {"Basic x"}}, placement: outgoing.Header, want: http.Header{"Authorization": {"Bearer token"}}, body: "{}"},
		"a form":                     {header: http.Header{"content-type": {formType}}, want: http.Header{"content-type": {formType}}, body: "auth=token&{}"},
		"JSON":                       {header: http.Header{"CONTENT-TYPE": {jsonType}}, want: http.Header{"CONTENT-TYPE": {jsonType}}, body: `{ "auth":"token"}`},
		"two types":                  {header: http.Header{"content-type": {jsonType}, "Content-Type": {formType}}, want: http.Header{"content-type": {jsonType}, "Content-Type": {formType}}, body: "{}"},
		"a compressed form":          {header: http.Header{"Content-Type": {formType}, "content-encoding": {"gzip"}}, want: http.Header{"Content-Type": {formType}, "content-encoding": {"gzip"}}, body: "{}"},
	} {
		req := post(t, "", strings.NewReader("{}"))
		req.Header = c.header
		var r outgoing.Request
		r.Init(req, c.placement, false)
		out, err := r.Prepare(outgoing.NewToken("token"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, out.Header); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := see(t, out); got.Body != c.body || c.placement == outgoing.Auto && strings.Contains(got.URL, "auth=token") == (c.body != "{}") {
			t.Errorf("%s: sent to %s with the body %s", name, got.URL, got.Body)
		}
		r.Finish()
	}
}

// Transports are about that rewrite the URL in place.
func TestURLIsACopyWhereverTheTokenGoes(t *testing.T) {
	for _, placement := range []outgoing.Placement{outgoing.Auto, outgoing.Query, outgoing.Header} {
		for _, contentType := range []string{formType, "text/plain"} {
			req := post(t, contentType, strings.NewReader("a=1"))
			req.URL.Host, req.URL.RawQuery = portal, ""
			before := *req.URL
			var r outgoing.Request
			r.Init(req, placement, false)
			out, err := r.Prepare(outgoing.NewToken("token"), address.Portal{Scheme: "https", Host: portal, Path: address.RestPath})
			r.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if out.URL.Host = "other.example"; *req.URL != before {
				t.Errorf("placement %d, %s: the caller's URL was changed", placement, contentType)
			}
		}
	}
}
