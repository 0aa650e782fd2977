package b24oauth_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
)

// found is what the portal found in a request. TOKEN stands for the token.
type found struct {
	AuthIn string
	Query  string
	Body   string
	Length int64 // -1: not announced
	Params map[string]any
}

// grown is a length as the test's tables state it: that of the body as it
// arrives, whatever the token's.
const grown = -2

func TestEveryKindOfRequestCarriesTheRightToken(t *testing.T) {
	const v2, v3 = "crm.deal.list", "api/tasks.task.get"
	multi, multiType := multipartBody(t)
	for _, c := range []struct {
		name      string
		placement b24oauth.Placement
		method    string
		path      string
		kind      string
		encoding  string
		header    string // the caller's own Authorization
		body      any    // nil, a string, or a reader of unknown length
		want      found
	}{
		// The table at Transport, row by row.
		{name: "GET", method: "GET", path: v2, want: found{"query", "auth=TOKEN", "", 0, params("")}},
		{name: "GET keeps order and escapes", method: "GET", path: v2 + "?b=%7e%2F+x&&a=1&b=&filter[>ID]=2&c",
			want: found{"query", "auth=TOKEN&b=%7e%2F+x&&a=1&b=&filter[>ID]=2&c", "", 0, params("b= a=1 c=", "filter", map[string]any{">ID": "2"})}},
		{name: "HEAD", method: "HEAD", path: v2, want: found{"query", "auth=TOKEN", "", 0, params("")}},
		{name: "PUT of a form", method: "PUT", path: v2, kind: formType, body: "a=1&auth=x", want: found{"query", "auth=TOKEN", "a=1&auth=x", 10, params("")}},
		{name: "PATCH of JSON", method: "PATCH", path: v2, kind: jsonType, body: `{"a":1}`, want: found{"query", "auth=TOKEN", `{"a":1}`, 7, params("")}},
		{name: "DELETE", method: "DELETE", path: v2 + "?id=1", want: found{"query", "auth=TOKEN&id=1", "", 0, params("id=1")}},
		{name: "POST without body", method: "POST", path: v2, want: found{"query", "auth=TOKEN", "", 0, params("")}},
		{name: "POST of an empty form", method: "POST", path: v2, kind: formType, body: http.NoBody, want: found{"query", "auth=TOKEN", "", 0, params("")}},
		{name: "v3 JSON", method: "POST", path: v3 + "?x=1", kind: jsonType, body: `{"id":"1"}`, want: found{"query", "auth=TOKEN&x=1", `{"id":"1"}`, 10, params("id=1")}},
		{name: "v3 batch", method: "POST", path: "api/batch", kind: jsonType, body: `[{"method":"m"}]`, want: found{"query", "auth=TOKEN", `[{"method":"m"}]`, 16, nil}},
		{name: "v3 with doubled slashes", method: "POST", path: "/api//tasks.task.get", kind: jsonType, body: `{"id":"1"}`, want: found{"query", "auth=TOKEN", `{"id":"1"}`, 10, params("id=1")}},
		{name: "v3 of unknown length", method: "POST", path: v3, kind: jsonType, body: unknown(`{"id":"1"}`), want: found{"query", "auth=TOKEN", `{"id":"1"}`, -1, params("id=1")}},
		{name: "multipart", method: "POST", path: v2, kind: multiType, body: multi, want: found{"query", "auth=TOKEN", multi, int64(len(multi)), params("a=1")}},
		{name: "unknown content type", method: "POST", path: v2, kind: "text/plain", body: "auth=x", want: found{"query", "auth=TOKEN", "auth=x", 6, params("")}},
		{name: "no content type", method: "POST", path: v2, body: "auth=x", want: found{"query", "auth=TOKEN", "auth=x", 6, params("")}},
		{name: "JSON in a spelling that portals do not know", method: "POST", path: v2, kind: "Application/JSON", body: `{"a":"1"}`, want: found{"query", "auth=TOKEN", `{"a":"1"}`, 9, params("")}},
		{name: "form with a Content-Encoding", method: "POST", path: v2, kind: formType, encoding: "gzip", body: "\x1f\x8b", want: found{"query", "auth=TOKEN", "\x1f\x8b", 2, params("\x1f\x8b=")}},
		{name: "JSON with a Content-Encoding", method: "POST", path: v2, kind: jsonType, encoding: "gzip", body: "\x1f\x8b", want: found{"query", "auth=TOKEN", "\x1f\x8b", 2, params("")}},
		{name: "form", method: "POST", path: v2 + "?b=2", kind: formType, body: "a=1", want: found{"body", "b=2", "auth=TOKEN&a=1", grown, params("a=1 b=2")}},
		{name: "form with charset", method: "POST", path: v2, kind: formType + "; charset=UTF-8", body: "a=1", want: found{"body", "", "auth=TOKEN&a=1", grown, params("a=1")}},
		{name: "form in capitals", method: "POST", path: v2, kind: "Application/X-WWW-Form-URLencoded", body: "a=1", want: found{"body", "", "auth=TOKEN&a=1", grown, params("a=1")}},
		{name: "form of unknown length", method: "POST", path: v2, kind: formType, body: unknown("a=1"), want: found{"body", "", "auth=TOKEN&a=1", -1, params("a=1")}},
		{name: "form with the caller's auth first", method: "POST", path: v2, kind: formType, body: "auth=x&a=1", want: found{"body", "", "auth=TOKEN&======&a=1", grown, params("a=1")}},
		{name: "form with the caller's auth last", method: "POST", path: v2, kind: formType, body: "a=1&auth=stale", want: found{"body", "", "auth=TOKEN&a=1&==========", grown, params("a=1")}},
		{name: "form of unknown length with the caller's auth", method: "POST", path: v2, kind: formType, body: unknown("auth=x&a=1"), want: found{"body", "", "auth=TOKEN&======&a=1", -1, params("a=1")}},
		{name: "form with the caller's access_token, which loses", method: "POST", path: v2, kind: formType, body: "access_token=x", want: found{"body", "", "auth=TOKEN&access_token=x", grown, params("access_token=x")}},
		{name: "JSON object", method: "POST", path: v2 + "?b=2", kind: jsonType, body: `{"a":"1"}`, want: found{"body", "b=2", `{"a":"1","auth":"TOKEN"}`, grown, params("a=1 b=2")}},
		{name: "JSON with charset", method: "POST", path: v2, kind: jsonType + "; charset=utf-8", body: `{"a":"1"}`, want: found{"body", "", `{"a":"1","auth":"TOKEN"}`, grown, params("a=1")}},
		{name: "JSON after white space", method: "POST", path: v2, kind: jsonType, body: " \r\n\t{\"a\":\"1\"}", want: found{"body", "", " \r\n\t{\"a\":\"1\",\"auth\":\"TOKEN\"}", grown, params("a=1")}},
		{name: "empty JSON object", method: "POST", path: v2, kind: jsonType, body: `{}`, want: found{"body", "", `{ "auth":"TOKEN"}`, grown, params("")}},
		{name: "JSON of unknown length", method: "POST", path: v2, kind: jsonType, body: unknown(`{"a":"1"}`), want: found{"body", "", `{"a":"1","auth":"TOKEN"}`, -1, params("a=1")}},
		{name: "JSON with the caller's auth", method: "POST", path: v2, kind: jsonType, body: `{"auth":"x"}`, want: found{"body", "", `{"auth":"x","auth":"TOKEN"}`, grown, params("")}},
		{name: "JSON with a nested auth", method: "POST", path: v2, kind: jsonType, body: `{"n":{"auth":"x"}}`,
			want: found{"body", "", `{"n":{"auth":"x"},"auth":"TOKEN"}`, grown, params("", "n", map[string]any{"auth": "x"})}},
		{name: "JSON list", method: "POST", path: v2, kind: jsonType, body: `[1]`, want: found{"query", "auth=TOKEN", `[1]`, 3, params("")}},
		{name: "JSON list of unknown length", method: "POST", path: v2, kind: jsonType, body: unknown(`[1]`), want: found{"query", "auth=TOKEN", `[1]`, -1, params("")}},
		{name: "JSON that is empty", method: "POST", path: v2, kind: jsonType, body: unknown(""), want: found{"query", "auth=TOKEN", "", -1, params("")}},
		{name: "JSON with a byte-order mark", method: "POST", path: v2, kind: jsonType, body: "\uFEFF{}", want: found{"query", "auth=TOKEN", "\uFEFF{}", 5, params("")}},
		{name: "PlaceQuery", placement: b24oauth.PlaceQuery, method: "POST", path: v2, kind: formType, body: "a=1", want: found{"query", "auth=TOKEN", "a=1", 3, params("a=1")}},
		{name: "PlaceQuery with JSON", placement: b24oauth.PlaceQuery, method: "POST", path: v2, kind: jsonType, body: `{"a":"1"}`, want: found{"query", "auth=TOKEN", `{"a":"1"}`, 9, params("a=1")}},
		{name: "PlaceHeader", placement: b24oauth.PlaceHeader, method: "POST", path: v2 + "?b=2", kind: formType, body: "a=1", want: found{"header", "b=2", "a=1", 3, params("a=1 b=2")}},
		{name: "PlaceHeader with GET", placement: b24oauth.PlaceHeader, method: "GET", path: v2, want: found{"header", "", "", 0, params("")}},

		// What the caller has put there itself.
		{name: "auth in the query", method: "GET", path: v2 + "?auth=x&a=1&access_token=y&%61uth=z", want: found{"query", "auth=TOKEN&a=1", "", 0, params("a=1")}},
		{name: "auth in the query of a form", method: "POST", path: v2 + "?auth=x&b=2&access_token=y", kind: formType, body: "a=1", want: found{"body", "b=2", "auth=TOKEN&a=1", grown, params("a=1 b=2")}},
		{name: "auth in the query of a JSON object", method: "POST", path: v2 + "?auth=x", kind: jsonType, body: "{}", want: found{"body", "", `{ "auth":"TOKEN"}`, grown, params("")}},
		{name: "auth in the query under PlaceHeader", placement: b24oauth.PlaceHeader, method: "GET", path: v2 + "?auth=x&a=1", want: found{"header", "a=1", "", 0, params("a=1")}},
		{name: "a Bearer header", method: "GET", path: v2, header: "bearer x", want: found{"query", "auth=TOKEN", "", 0, params("")}},
		{name: "a Bearer header with a form", method: "POST", path: v2, kind: formType, header: "Bearer x", body: "a=1", want: found{"body", "", "auth=TOKEN&a=1", grown, params("a=1")}},
		{name: "a Bearer header under PlaceHeader", placement: b24oauth.PlaceHeader, method: "GET", path: v2, header: "Bearer x", want: found{"header", "", "", 0, params("")}},
		{name: "another Authorization under PlaceHeader", placement: b24oauth.PlaceHeader, method: "GET", path: v2, header: "Basic eDp5", want: found{"header", "", "", 0, params("")}},
		{name: "another Authorization stays", method: "GET", path: v2, header: "Basic eDp5", want: found{"query", "auth=TOKEN", "", 0, params("")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram(t)
			token := token(t, p.source)
			alive := &aliveBody{base: p.base()}
			tr := p.over(alive)
			tr.Placement = c.placement

			req := post(t, p.Endpoint()+c.path, c.kind, c.body)
			req.Method = c.method
			for name, value := range map[string]string{"Content-Encoding": c.encoding, "Authorization": c.header} {
				if value != "" {
					req.Header.Set(name, value)
				}
			}
			if c.kind == "" {
				req.Header.Del("Content-Type")
			}
			resp, err := tr.RoundTrip(req)
			if got := status(t, resp, err); got != 200 {
				t.Errorf("status %d, want 200", got)
			}
			requests := p.Requests()
			if len(requests) != 1 {
				t.Fatalf("%d requests arrived, want 1", len(requests))
			}
			r := requests[0]
			if r.Auth != token {
				t.Errorf("the portal found the token %q, want ours", r.Auth)
			}
			if c.want.Length == grown {
				c.want.Length = int64(len(strings.ReplaceAll(c.want.Body, "TOKEN", token)))
			}
			delete(r.Params, "auth")
			hide := strings.NewReplacer(token, "TOKEN")
			got := found{r.AuthIn, hide.Replace(r.Query), hide.Replace(string(r.Body)), r.ContentLength, r.Params}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantHeader := []string(nil)
			switch {
			case c.placement == b24oauth.PlaceHeader:
				wantHeader = []string{"Bearer " + token}
			case strings.HasPrefix(c.header, "Basic"):
				wantHeader = []string{c.header}
			}
			if diff := cmp.Diff(wantHeader, r.Header["Authorization"]); diff != "" {
				t.Errorf("Authorization (-want +got):\n%s", diff)
			}
			if wantAlive := req.GetBody != nil; alive.asked != wantAlive {
				t.Errorf("Base has GetBody: %t, want %t", alive.asked, wantAlive)
			}
			if alive.asked && req.Body != http.NoBody {
				for i, body := range alive.bodies {
					if diff := cmp.Diff(string(r.Body), body); diff != "" {
						t.Errorf("body %d of GetBody (-sent +got):\n%s", i+1, diff)
					}
				}
			}
		})
	}
}

// params are what PHP makes of a form or query written with spaces between
// the fields, and of a nested one.
func params(fields string, nested ...any) map[string]any {
	m := map[string]any{}
	for field := range strings.SplitSeq(fields, " ") {
		if name, value, ok := strings.Cut(field, "="); ok {
			m[name] = value
		}
	}
	if len(nested) == 2 {
		m[nested[0].(string)] = nested[1]
	}
	return m
}

// aliveBody asks GetBody twice, as net/http does when a connection dies.
type aliveBody struct {
	base   http.RoundTripper
	asked  bool
	bodies []string
}

func (a *aliveBody) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody != nil {
		a.asked = true
		for range 2 {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			data, err := io.ReadAll(body)
			if err != nil {
				return nil, err
			}
			a.bodies = append(a.bodies, string(data))
		}
	}
	return a.base.RoundTrip(req)
}

func multipartBody(t *testing.T) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.WriteField("a", "1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func TestTokenIsSeenWhereverPHPCutsOff(t *testing.T) {
	var fields strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&fields, "f%d=%d&", i, i)
	}
	long := fields.String() + "auth=stale"
	multi, multiType := multipartBody(t)
	for _, c := range []struct{ name, method, path, kind, body, in string }{
		{"form", "POST", "crm.deal.add", formType, long, "body"},
		{"query of a GET", "GET", "crm.deal.list?" + long, "", "", "query"},
		{"query of a multipart form", "POST", "disk.folder.uploadfile?" + long, multiType, multi, "query"},
		{"query of v3", "POST", "api/tasks.task.get?" + long, jsonType, `{"id":1}`, "query"},
		{"query of a positional method", "GET", "task.item.list?" + long, "", "", "query"},
	} {
		p := newProgram(t)
		req := post(t, p.Endpoint()+c.path, c.kind, c.body)
		req.Method = c.method
		resp, err := p.client.Do(req)
		if got := status(t, resp, err); got != 200 {
			t.Errorf("%s: status %d, want 200", c.name, got)
		}
		r := p.Requests()[0]
		if r.AuthIn != c.in || strings.Contains(r.Query+string(r.Body), "stale") {
			t.Errorf("%s: the token was found in %q", c.name, r.AuthIn)
		}
		if c.method == "GET" && len(r.Params) != 1000 {
			t.Errorf("%s: the portal read %d fields, which proves nothing", c.name, len(r.Params))
		}
	}
}

func TestV3KeepsItsIdempotencyKeyAndItsBodyWhenRepeated(t *testing.T) {
	p := newProgram(t)
	p.ExpireAccessTokens()
	req := post(t, p.Endpoint()+"api/tasks.task.add", jsonType, ` {"fields": {"TITLE":"x"}} `)
	req.Header.Set("Idempotency-Key", "k")
	resp, err := p.client.Do(req)
	if got := status(t, resp, err); got != 200 {
		t.Errorf("status %d, want 200", got)
	}
	type sent struct{ Key, Body string }
	var got []sent
	for _, r := range p.Requests() {
		got = append(got, sent{r.Header.Get("Idempotency-Key"), string(r.Body)})
	}
	same := sent{"k", ` {"fields": {"TITLE":"x"}} `}
	if diff := cmp.Diff([]sent{same, same}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReplayCarriesTheNewTokenWhereTheOldOneStood(t *testing.T) {
	for _, c := range []struct {
		name, kind, body string
		placement        b24oauth.Placement
		want             string
	}{
		{"query", "text/plain", "x", b24oauth.PlaceAuto, "x"},
		{"form", formType, "a=1&auth=x", b24oauth.PlaceAuto, "auth=TOKEN&a=1&======"},
		{"JSON", jsonType, ` {"a":1}`, b24oauth.PlaceAuto, ` {"a":1,"auth":"TOKEN"}`},
		{"header", formType, "a=1", b24oauth.PlaceHeader, "a=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram(t)
			old := token(t, p.source)
			p.ExpireAccessTokens()
			tr := p.over(p.base())
			tr.Placement = c.placement
			resp, err := tr.RoundTrip(post(t, p.Endpoint()+"crm.deal.add", c.kind, c.body))
			if got := status(t, resp, err); got != 200 {
				t.Errorf("status %d, want 200", got)
			}
			requests := p.Requests()
			if len(requests) != 2 {
				t.Fatalf("%d requests, want 2", len(requests))
			}
			for i, token := range []string{old, token(t, p.source)} {
				r := requests[i]
				body := strings.ReplaceAll(string(r.Body), token, "TOKEN")
				if r.Auth != token || body != c.want || r.ContentLength != int64(len(r.Body)) {
					t.Errorf("request %d: token %q, body %q of %d bytes announced; want %q and %q", i+1, r.Auth, body, r.ContentLength, token, c.want)
				}
			}
		})
	}
}

func TestTokenIsEscapedWhereverItStands(t *testing.T) {
	const token = `a+b&c="d"%é`
	p := newProgramAt(t, stubPortal)
	g := p.Install()
	g.MemberID, g.ClientEndpoint, g.AccessToken = "own", stubPortal, token
	if err := p.config.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kind, body, query, want string }{
		{"", "", "auth=" + url.QueryEscape(token), ""},
		{formType, "a=1", "", "auth=" + url.QueryEscape(token) + "&a=1"},
		{jsonType, "{}", "", `{ "auth":"a+b\u0026c=\"d\"%é"}`},
	} {
		var query, body string
		tr := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			data, err := io.ReadAll(req.Body)
			query, body = req.URL.RawQuery, string(data)
			if req.ContentLength != int64(len(data)) {
				t.Errorf("%q: %d bytes announced, %d sent", c.body, req.ContentLength, len(data))
			}
			return answer(200, "{}"), err
		}))
		resp, err := tr.RoundTrip(post(t, stubPortal+"m", c.kind, c.body))
		status(t, resp, err)
		if query != c.query || body != c.want {
			t.Errorf("query %q and body %q, want %q and %q", query, body, c.query, c.want)
		}
	}
}

// A portal can move its methods away from /rest/.
func TestPortalThatHasMovedItsMethodsIsCalledAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(nil)
		g := spent()
		g.ClientEndpoint, g.Expiry, g.RefreshToken = "https://portal.bitrix24.com/crm/rest/", time.Now().Add(time.Hour), ""
		if err := c.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		var url, body string
		client := &http.Client{Transport: &b24oauth.Transport{Source: c.TokenSource(key), Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			data, err := io.ReadAll(req.Body)
			url, body = req.URL.String(), string(data)
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, err
		})}}
		for _, test := range []struct{ path, url, body string }{
			{"m", "m", `{"a":1,"auth":"spent-access-token"}`},
			{"api/m", "api/m?auth=spent-access-token", `{"a":1}`},
			{"1/secret/m", "1/secret/m", `{"a":1}`},
		} {
			resp, err := client.Post(g.ClientEndpoint+test.path, "application/json", strings.NewReader(`{"a":1}`))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if url != g.ClientEndpoint+test.url || body != test.body {
				t.Errorf("%s: %s with %s; want %s with %s", test.path, url, body, test.url, test.body)
			}
		}
	})
}
