package authparam_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/phptest"
	"github.com/google/go-cmp/cmp"
)

// A php is a PHP interpreter behind its built-in web server.
type php struct {
	url string
}

func startPHP(t *testing.T) php { return php{phptest.Start(t) + "/"} }

func (p php) ask(ctx context.Context, method, query, contentType string, body io.Reader, length int64) (phptest.Seen, error) {
	var s phptest.Seen
	req, err := http.NewRequestWithContext(ctx, method, p.url, body)
	if err != nil {
		return s, err
	}
	req.URL.RawQuery = query
	req.ContentLength = length
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, err
	}
	if s.Length != length {
		return s, fmt.Errorf("php read %d bytes of %d", s.Length, length)
	}
	return s, nil
}

func (p php) query(t *testing.T, query string) map[string]any {
	t.Helper()
	s, err := p.ask(t.Context(), "GET", query, "", nil, 0)
	if err != nil {
		t.Fatalf("%q: %v", query, err)
	}
	return s.Get
}

const formType, jsonType = "application/x-www-form-urlencoded", "application/json"

// form sends body as it is, and through NewFormReader.
func (p php) form(t *testing.T, body string) (without, with map[string]any) {
	t.Helper()
	length := int64(len(body))
	a, err := p.ask(t.Context(), "POST", "", formType, strings.NewReader(body), length)
	if err != nil {
		t.Fatalf("%.80q: %v", body, err)
	}
	r := authparam.NewFormReader(strings.NewReader(body), token)
	b, err := p.ask(t.Context(), "POST", "", formType, r, length+authparam.FormOverhead(token))
	if err != nil {
		t.Fatalf("%.80q with auth: %v", body, err)
	}
	return a.Post, b.Post
}

// json sends body as it is, and through NewJSONReader.
func (p php) json(t *testing.T, body string) (without, with any) {
	t.Helper()
	length := int64(len(body))
	a, err := p.ask(t.Context(), "POST", "", jsonType, strings.NewReader(body), length)
	if err != nil {
		t.Fatalf("%.80q: %v", body, err)
	}
	r := authparam.NewJSONReader(strings.NewReader(body), token)
	b, err := p.ask(t.Context(), "POST", "", jsonType, r, length+authparam.JSONOverhead(token))
	if err != nil {
		t.Fatalf("%.80q with auth: %v", body, err)
	}
	return a.JSON, b.JSON
}

// withAuth is what PHP should see: what it saw before, and our token.
func withAuth(before map[string]any) map[string]any {
	after := maps.Clone(before)
	delete(after, "access_token")
	after["auth"] = token
	return after
}

func TestPHPReadsNamesAsTheTableSays(t *testing.T) {
	p := startPHP(t)
	for _, c := range names {
		post, _ := p.form(t, c.field)
		if _, isAuth := post["auth"]; isAuth != c.isAuth {
			t.Errorf("form field %q: PHP reads %v", c.field, post)
		}
		get := p.query(t, c.field)
		if _, isAuth := get["auth"]; isAuth != c.isAuth {
			t.Errorf("query field %q: PHP reads %v", c.field, get)
		}
	}
}

func TestPHPSeesOurTokenInAForm(t *testing.T) {
	p := startPHP(t)
	bodies := []string{"", "a=1", "&", "a=%zz&b[]=1&b[]=2&c[d][e]=%C3%A9&f.g+h=1&i"}
	for _, c := range names {
		bodies = append(bodies, c.field, c.field+"&a=1&author=me", "a=1&"+c.field+"&b[auth]=2", "a=1&b=2&"+c.field)
	}
	for _, body := range bodies {
		without, with := p.form(t, body)
		if diff := cmp.Diff(withAuth(without), with); diff != "" {
			t.Errorf("%q (-want +got):\n%s", body, diff)
		}
	}
}

func TestPHPSeesOurTokenInAFormThatItCutsOff(t *testing.T) {
	p := startPHP(t)
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "field%d=%d&", i, i)
	}
	without, with := p.form(t, b.String()+"auth=stale")
	if without["auth"] != nil {
		t.Fatalf("this PHP reads all of %d fields, which proves nothing", len(without))
	}
	want := withAuth(without)
	delete(want, fmt.Sprintf("field%d", len(without)-1)) // ours takes the place of the last
	if diff := cmp.Diff(want, with); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPHPReadsNothingOfAFormThatIsTooLarge(t *testing.T) {
	p := startPHP(t)
	without, with := p.form(t, "a="+strings.Repeat("x", 9<<20))
	if len(without) > 0 || len(with) > 0 {
		t.Errorf("PHP reads %d and %d fields; Request.WhyUnread of package outgoing says that it reads none", len(without), len(with))
	}
}

func TestPHPSeesOurTokenInAJSONObject(t *testing.T) {
	p := startPHP(t)
	for _, body := range []string{
		`{}`, " {\r\n} ", `{"a":1}`, `{"auth":"stale"}`, `{"auth":"stale","a":{"auth":"nested","b":[{"auth":1}]}}`,
		`{"a":1,"\u0061uth":["stale"]}`, `{"auth":{"auth":"stale"},"auth":"stale"}`, `{"a":"}\"\\","}":"{"}`,
	} {
		without, with := p.json(t, body)
		before, ok := without.(map[string]any)
		if !ok {
			t.Fatalf("%s: PHP reads %v", body, without)
		}
		if diff := cmp.Diff(any(withAuth(before)), with); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	for _, body := range []string{
		`{"a":1`, `{"a":1}}`, `{"a":}`, `{"a":1,}`, `{"a":1,,"b":2}`, "{\"a\":\"\xE4\"}", `{"a":"\ud83d"}`, "{\"a\":\"\t\"}", `{"a":NaN}`,
		`{"a":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `}`,
	} {
		if without, with := p.json(t, body); without != nil || with != nil {
			t.Errorf("%s: PHP reads %v and %v", body, without, with)
		}
	}
}

func TestPHPSeesOurTokenInAQuery(t *testing.T) {
	p := startPHP(t)
	queries := []string{
		"", "a=1", "&", "&&a=1&", "&a=1", "a=1&", ";", "a=1;b=2", "access_token=x&a=1&access_token[]=y",
		"a=%zz&b[]=1&b[]=2&c[d][e]=%C3%A9&f.g+h=1&i", "access.token=x&access+token=y&access%20token[]=z&access%5Btoken=v",
	}
	for _, c := range names {
		queries = append(queries, c.field, c.field+"&a=1&author=me", "a=1&"+c.field+"&b[auth]=2", "a=1&b=2&"+c.field)
	}
	for _, query := range queries {
		want := withAuth(p.query(t, query))
		if diff := cmp.Diff(want, p.query(t, authparam.Query(query, authparam.Field(token)))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

func TestPHPFindsTheSecretsOfTheTable(t *testing.T) {
	p := startPHP(t)
	text := func(m any, name string) bool {
		fields, _ := m.(map[string]any)
		_, is := fields[name].(string)
		return is
	}
	for _, c := range secrets {
		got := p.query(t, c.query)
		bears := text(got, "token") || text(got, "aplogin") && text(got, "ap") || text(got["auth"], "aplogin") && text(got["auth"], "ap")
		if bears != c.bears {
			t.Errorf("%q: PHP reads %v", c.query, got)
		}
	}
}

func TestPHPSeesOurTokenInAQueryThatItCutsOff(t *testing.T) {
	p := startPHP(t)
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "f%d=%d&", i, i)
	}
	without, with := p.query(t, b.String()+"auth=stale"), p.query(t, authparam.Query(b.String()+"auth=stale", authparam.Field(token)))
	if without["auth"] != nil {
		t.Fatalf("this PHP reads all of %d fields, which proves nothing", len(without))
	}
	want := withAuth(without)
	delete(want, fmt.Sprintf("f%d", len(without)-1)) // ours takes the place of the last
	if diff := cmp.Diff(want, with); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
