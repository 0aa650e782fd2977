package proxy_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"strings"
	"testing"
)

// form returns a multipart form of names and values.
func form(t *testing.T, fields ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	file, err := w.CreateFormFile("auth", "auth.txt") // is a file to PHP, and no parameter
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(file, "a file")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

func TestATokenThatThePortalWouldTakeInsteadIsRefused(t *testing.T) {
	w := start(t)
	multipart := func(fields ...string) [2]string { kind, body := form(t, fields...); return [2]string{kind, body} }
	for _, test := range []struct {
		name, path string
		sent       [2]string // content type and body
		field      string    // that is refused, "" if none is
	}{
		{"a form's", "/rest/profile", multipart("id", "7", "auth", "planted"), "auth"},
		{"a form's of another name", "/rest/profile", multipart("access_token", "planted"), "access_token"},
		{"a form's as an array", "/rest/profile", multipart("auth[x]", "planted"), "auth[x]"},
		{"a form's with a space before it", "/rest/profile", multipart(" auth", "planted"), " auth"},
		{"version 3's", "/rest/api/tasks.task.get", [2]string{"application/json; charset=utf-8", `{"id":7,"\u0061uth":"planted"}`}, "auth"},

		{"no form's", "/rest/profile", multipart("author", "7", "fields[auth]", "8"), ""},
		{"not version 3's", "/rest/api/tasks.task.get", [2]string{"application/json", `{"filter":{"auth":"7"}}`}, ""},
		{"no batch's", "/rest/api/batch", [2]string{"application/json", `[]`}, ""},
		{"JSON's, which is replaced", "/rest/profile", [2]string{"application/json", `{"auth":"planted"}`}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(w.Requests())
			resp, body := w.do(t, "POST", test.path, strings.NewReader(test.sent[1]), header("Content-Type", test.sent[0]))
			if test.field == "" {
				if resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
				return
			}
			if resp.StatusCode != 400 || !strings.Contains(body, "leave the field "+test.field+" out") || strings.Contains(body+w.log.String(), "planted") {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if n := len(w.Requests()); n != before {
				t.Errorf("%d requests were passed on", n-before)
			}
		})
	}
	if n := w.Refreshes(); n != 0 {
		t.Errorf("a token that works was renewed %d times", n)
	}
}
