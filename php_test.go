package b24oauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/phptest"
)

// TestPHPSeesTheTokenOfEveryKindOfRequest has PHP's own word for what
// TestEveryKindOfRequestCarriesTheRightToken has b24test's.
func TestPHPSeesTheTokenOfEveryKindOfRequest(t *testing.T) {
	url := phptest.Start(t)
	p := newProgramAt(t, url+"/rest/")
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	multi, multiType := multipartBody(t)
	var long strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&long, "f%d=%d&", i, i)
	}
	type fields = map[string]any
	for _, c := range []struct {
		name, method, query, kind, body string
		placement                       b24oauth.Placement
		get, post                       fields
		json                            any
		authorization                   string
		cut                             bool // PHP does not read all fields
	}{
		{name: "GET", method: "GET", query: "b=%7e&auth=x&access_token=y", get: fields{"b": "~", "auth": "first"}},
		{name: "GET with many fields", method: "GET", query: long.String() + "auth=x", get: fields{"auth": "first"}, cut: true},
		{name: "multipart with many fields in its query", method: "POST", query: long.String(), kind: multiType, body: multi, get: fields{"auth": "first"}, post: fields{"a": "1"}, cut: true},
		{name: "PUT", method: "PUT", kind: jsonType, body: "[1]", get: fields{"auth": "first"}, json: []any{1.0}},
		{name: "form", method: "POST", query: "b=2&auth=x", kind: formType, body: "a=1&auth=x", get: fields{"b": "2"}, post: fields{"a": "1", "auth": "first"}},
		{name: "long form", method: "POST", kind: formType, body: long.String() + "auth=x", post: fields{"auth": "first"}, cut: true},
		{name: "JSON", method: "POST", kind: jsonType, body: ` {"auth":"x","a":{"auth":"y"}}`, json: fields{"auth": "first", "a": fields{"auth": "y"}}},
		{name: "JSON with a byte-order mark", method: "POST", kind: jsonType, body: "\uFEFF{}", get: fields{"auth": "first"}},
		{name: "multipart", method: "POST", kind: multiType, body: multi, get: fields{"auth": "first"}, post: fields{"a": "1"}},
		{name: "header", method: "POST", placement: b24oauth.PlaceHeader, kind: formType, body: "a=1", post: fields{"a": "1"}, authorization: "Bearer first"},
	} {
		for _, known := range []bool{true, false} {
			var body any = c.body
			if !known {
				body = unknown(c.body)
			}
			req := post(t, url+"/rest/m?"+c.query, c.kind, body)
			req.Method = c.method
			tr := p.over(base)
			tr.Placement = c.placement
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			var got phptest.Seen
			if err := json.Unmarshal([]byte(text(t, resp)), &got); err != nil {
				t.Fatal(err)
			}
			got.Length = 0
			for _, m := range []*fields{&got.Get, &got.Post} {
				if c.cut && (*m)["auth"] != nil {
					*m = fields{"auth": (*m)["auth"]}
				}
			}
			want := phptest.Seen{Get: c.get, Post: c.post, JSON: c.json, Authorization: c.authorization}
			for _, m := range []*fields{&want.Get, &want.Post} {
				if *m == nil {
					*m = fields{}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, length known: %t (-want +got):\n%s", c.name, known, diff)
			}
		}
	}
}
