package b24test_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenIsFoundWhereTheProtocolSays(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	const multi = "multipart/form-data; boundary=b"
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	filler := strings.Repeat("f=1&", 999)

	for _, tt := range []struct {
		name                                     string
		method, path, header, query, ctype, body string
		in                                       string // "": the token is not found, or another one is
	}{
		{"header", "GET", "", "Bearer T", "", "", "", "header"},
		{"header in any case, with spaces", "GET", "", "bearer   T", "", "", "", "header"},
		{"header before all others", "POST", "", "Bearer T", "auth=x", formType, "auth=y", "header"},
		{"another scheme is no token", "GET", "", "Basic T", "auth=T", "", "", "query"},
		{"query", "GET", "", "", "auth=T", "", "", "query"},
		{"query with access_token", "GET", "", "", "access_token=T", "", "", "query"},
		{"auth before access_token", "GET", "", "", "access_token=x&auth=T", "", "", "query"},
		{"an empty auth hides access_token", "GET", "", "", "auth=&access_token=T", "", "", ""},
		{"an array is no token", "GET", "", "", "auth[]=x&access_token=T", "", "", "query"},
		{"query, last wins", "GET", "", "", "auth=x&auth=T", "", "", "query"},
		{"query of a POST", "POST", "", "", "auth=T", "text/plain", "auth=x", "query"},
		{"form", "POST", "", "", "", formType, "auth=T", "body"},
		{"form with a charset, in any case", "POST", "", "", "", "Application/X-WWW-Form-Urlencoded; charset=utf-8", "auth=T", "body"},
		{"form wins over query", "POST", "", "", "auth=T", formType, "auth=x", ""},
		{"form auth before query access_token", "POST", "", "", "access_token=x", formType, "auth=T", "body"},
		{"query auth before form access_token", "POST", "", "", "auth=T", formType, "access_token=x", "query"},
		{"form, last wins", "POST", "", "", "", formType, "auth=x&a=1&auth=T", "body"},
		{"form, leading space", "POST", "", "", "", formType, "+auth=T", "body"},
		{"form, zero byte ends the name", "POST", "", "", "", formType, "auth%00x=T", "body"},
		{"form, a field without a name", "POST", "", "", "", formType, "auth=T&=xxxx", "body"},
		{"form, escaped name", "POST", "", "", "", formType, "%61uth=T", "body"},
		{"form of a PUT is ignored", "PUT", "", "", "", formType, "auth=T", ""},
		{"form of a PUT does not hide the query", "PUT", "", "", "auth=T", formType, "auth=x", "query"},
		{"field 1000", "POST", "", "", "", formType, filler + "auth=T", "body"},
		{"field 1001", "POST", "", "", "", formType, filler + "f=1&auth=T", ""},
		{"field 1001 of a query", "GET", "", "", filler + "f=1&auth=T", "", "", ""},
		{"multipart", "POST", "", "", "", multi, part("auth", "T") + "--b--\r\n", "body"},
		{"multipart wins over query", "POST", "", "", "auth=T", multi, part("auth", "x") + "--b--\r\n", ""},
		{"multipart field 1001", "POST", "", "", "", multi, strings.Repeat(part("f", "1"), 1000) + part("auth", "T") + "--b--\r\n", ""},
		{"JSON", "POST", "", "", "", jsonType, `{"auth":"T"}`, "body"},
		{"JSON with a charset", "POST", "", "", "", jsonType + "; charset=utf-8", `{"auth":"T"}`, "body"},
		{"JSON wins over query", "POST", "", "", "auth=T", jsonType, `{"auth":"x"}`, ""},
		{"JSON, last wins", "POST", "", "", "", jsonType, `{"auth":"x","auth":"T"}`, "body"},
		{"JSON null is empty", "POST", "", "", "auth=T", jsonType, `{"auth":null}`, ""},
		{"JSON without auth", "POST", "", "", "auth=T", jsonType, `{"a":1}`, "query"},
		{"JSON with a byte-order mark", "POST", "", "", "auth=T", jsonType, "\ufeff" + `{"auth":"x"}`, "query"},
		{"JSON that is no UTF-8", "POST", "", "", "auth=T", jsonType, "{\"auth\":\"x\xff\"}", "query"},
		{"JSON cut short", "POST", "", "", "auth=T", jsonType, `{"auth":"x"`, "query"},
		{"JSON with more behind", "POST", "", "", "auth=T", jsonType, `{"auth":"x"}{}`, "query"},
		{"JSON that is no object", "POST", "", "", "auth=T", jsonType, `["auth"]`, "query"},
		{"JSON of a PUT is ignored", "PUT", "", "", "auth=T", jsonType, `{"auth":"x"}`, "query"},
		{"JSON of another type", "POST", "", "", "auth=T", "application/problem+json", `{"auth":"x"}`, "query"},
		{"v3 header", "POST", "api/", "Bearer T", "", jsonType, `{}`, "header"},
		{"v3 query", "POST", "api/", "", "auth=T", jsonType, `{}`, "query"},
		{"v3 body", "POST", "api/", "", "", jsonType, `{"auth":"T"}`, "body"},
		{"v3 knows no access_token", "GET", "api/", "", "access_token=T", "", "", ""},
		{"v3 reads no form", "POST", "api/", "", "auth=T", formType, "auth=x", "query"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fill := strings.NewReplacer("T", token)
			req := request(t, tt.method, srv.Endpoint()+tt.path+"m?"+fill.Replace(tt.query), tt.ctype, fill.Replace(tt.body))
			if tt.header != "" {
				req.Header.Set("Authorization", fill.Replace(tt.header))
			}
			a := do(t, srv, req)
			r := last(t, srv.Requests())
			if found := r.Auth == token; found != (tt.in != "") || found && r.AuthIn != tt.in {
				t.Errorf("found %q in %q, want it in %q", r.Auth, r.AuthIn, tt.in)
			}
			if r.Auth == "" && r.AuthIn != "" {
				t.Errorf("no token, but in %q", r.AuthIn)
			}
			if (a.status == 200) != (tt.in != "") || a.status != r.Status {
				t.Errorf("answer %d, in the log %d", a.status, r.Status)
			}
		})
	}
}

func TestParametersAreWhatPHPSees(t *testing.T) {
	srv := newServer(t)
	type m = map[string]any
	list := func(v ...any) []any { return v }

	for query, want := range map[string]m{
		"":                                 {},
		"a=1&b=2":                          {"a": "1", "b": "2"},
		"a":                                {"a": ""},
		"a=b=c":                            {"a": "b=c"},
		"&&a=1&":                           {"a": "1"},
		"a=1;b=2":                          {"a": "1;b=2"},
		"a=x+y%20z%2B":                     {"a": "x y z+"},
		"a=%zz+%41%":                       {"a": "%zz A%"},
		"a.b=1&c%20d=2":                    {"a_b": "1", "c_d": "2"},
		"++a=1&=2&+=3":                     {"a": "1"},
		"a[b]=1&a[c]=2":                    {"a": m{"b": "1", "c": "2"}},
		"a[b][c]=1":                        {"a": m{"b": m{"c": "1"}}},
		"a[]=1&a[]=2":                      {"a": list("1", "2")},
		"a[%20]=1":                         {"a": list("1")},
		"a[0]=1&a[1]=2":                    {"a": list("1", "2")},
		"a[1]=1&a[0]=2":                    {"a": m{"1": "1", "0": "2"}},
		"a[5]=1&a[]=2":                     {"a": m{"5": "1", "6": "2"}},
		"a[x]=1&a[]=2":                     {"a": m{"x": "1", "0": "2"}},
		"a[b.c d]=1":                       {"a": m{"b.c d": "1"}},
		"a.b[c.d]=1":                       {"a_b": m{"c.d": "1"}},
		"a[b]x=1":                          {"a": m{"b": "1"}},
		"a[b=1":                            {"a_b": "1"},
		"a[b.c[d=1":                        {"a_b_c_d": "1"},
		"a[b][c=1":                         {"a": m{"b": "1"}},
		"[a]=1&[b=2":                       {},
		"a=1&a[b]=2":                       {"a": m{"b": "2"}},
		"a[b]=2&a=1":                       {"a": "1"},
		"a" + strings.Repeat("[]", 65):     {},
		"a%5Bb%5D=1":                       {"a": m{"b": "1"}},
		"filter[>ID]=1&filter[!STAGE]=WON": {"filter": m{">ID": "1", "!STAGE": "WON"}},
	} {
		query = strings.ReplaceAll(query, "c d", "c+d")
		get(t, srv, srv.Endpoint()+"m?"+query)
		r := last(t, srv.Requests())
		if diff := cmp.Diff(want, r.Params); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		if r.Query != query {
			t.Errorf("raw query %q, want %q", r.Query, query)
		}
	}
}

func TestParametersOfQueryAndBodyAreMerged(t *testing.T) {
	srv := newServer(t)
	type m = map[string]any
	for _, tt := range []struct {
		name, path, ctype, body string
		want                    m
	}{
		{"form", "m?a=1&b[x]=2", formType, "b[y]=3&c=4", m{"a": "1", "b": m{"y": "3"}, "c": "4"}},
		{"JSON", "m?a=1&b=2", jsonType, `{"b":3,"c":{"d":[true,null,1.50]}}`,
			m{"a": "1", "b": json.Number("3"), "c": m{"d": []any{true, nil, json.Number("1.50")}}}},
		{"no body", "m?a=1", "", "", m{"a": "1"}},
		{"text", "m?a=1", "text/plain", "a=2", m{"a": "1"}},
		{"multipart without its files", "m?a=1", "multipart/form-data; boundary=b",
			"--b\r\nContent-Disposition: form-data; name=\"c[d]\"\r\n\r\n4\r\n" +
				"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nbytes\r\n--b--\r\n",
			m{"a": "1", "c": m{"d": "4"}}},
		{"multipart broken off", "m", "multipart/form-data; boundary=b",
			"--b\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n4\r\n--b\r\nContent-Dis", m{"c": "4"}},
		{"multipart without a boundary", "m", "multipart/form-data; =", "x", m{}},
		{"v3 takes the JSON alone", "api/m?a=1", jsonType, `{"b":"2"}`, m{"b": "2"}},
		{"v3 batch has none", "api/batch?a=1", jsonType, `[{"method":"m"}]`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			post(t, srv, srv.Endpoint()+tt.path, tt.ctype, tt.body)
			r := last(t, srv.Requests())
			if diff := cmp.Diff(tt.want, r.Params); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			if string(r.Body) != tt.body || r.ContentLength != int64(len(tt.body)) || r.Header.Get("Content-Type") != tt.ctype {
				t.Errorf("logged %q, length %d, type %q", r.Body, r.ContentLength, r.Header.Get("Content-Type"))
			}
		})
	}
}

func TestLargeBodiesAreReadButNotKept(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	body := fmt.Sprintf(`{"a":%q,"auth":%q}`, strings.Repeat("x", 3<<20), token)
	a := post(t, srv, srv.Endpoint()+"m", jsonType, body)
	r := last(t, srv.Requests())
	if a.status != 200 || len(r.Body) != 1<<20 || r.ContentLength != int64(len(body)) {
		t.Errorf("status %d, %d bytes kept of %d", a.status, len(r.Body), r.ContentLength)
	}
	if keys := len(r.Params); keys != 2 {
		t.Errorf("%d parameters", keys)
	}
	a = post(t, srv, srv.Endpoint()+"m?auth="+token, jsonType, `{"a":"`+strings.Repeat("x", 64<<20)+`"}`)
	if a.status != 413 {
		t.Errorf("a body over 64 MiB: %d", a.status)
	}
}
