package integration

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

func TestCanaryIsFoundInEveryForm(t *testing.T) {
	var c canaries
	secret := c.plant("secret")
	awkward := newCanary("awkward", `a"b+c/d e&f=g<h>`+secret[:15]+"?")
	c.list = append(c.list, awkward)
	forms := map[string]string{
		"as it is":              secret,
		"in lower case":         strings.ToLower(secret),
		"in a query":            url.Values{"auth": {awkward.value}}.Encode(),
		"in a path":             "/rest/" + url.PathEscape(awkward.value),
		"in JSON":               fmt.Sprint(escapedJSON(awkward.value)),
		"in hexadecimal":        fmt.Sprintf("%x", secret),
		"its first half":        secret[:len(secret)*3/5],
		"its second half":       secret[len(secret)*2/5:],
		"in basic credentials":  base64.StdEncoding.EncodeToString([]byte("client:" + awkward.value)),
		"in a base64 of a path": base64.URLEncoding.EncodeToString([]byte("/?" + secret + "&x")),
	}
	for before := range 6 {
		text := strings.Repeat("-", before) + secret + strings.Repeat("?", 6-before)
		for name, e := range map[string]*base64.Encoding{
			"std": base64.StdEncoding, "url": base64.URLEncoding, "raw std": base64.RawStdEncoding, "raw url": base64.RawURLEncoding,
		} {
			forms[fmt.Sprintf("in base64 %s after %d bytes", name, before)] = e.EncodeToString([]byte(text))
		}
	}
	for name, text := range forms {
		if found := c.in("before " + text + " after"); len(found) != 1 {
			t.Errorf("%s: found %q in %q, want one", name, found, text)
		}
	}
	if found := c.in("nothing " + secret[:part-1]); len(found) != 0 {
		t.Errorf("found %q where there is none", found)
	}
}

// quoting is an error that only one of its ways out tells the secret by.
type quoting struct {
	Field string
	inner error
}

func (quoting) Error() string                { return "clean" }
func (q quoting) Unwrap() error              { return q.inner }
func (quoting) MarshalJSON() ([]byte, error) { return []byte(`"clean"`), nil }

type several []error

func (several) Error() string     { return "several" }
func (s several) Unwrap() []error { return s }

func TestCanaryPlantedAnywhereIsFound(t *testing.T) {
	var c canaries
	secret := c.plant("secret")
	plain := errors.New(secret)
	at := "http://portal.localhost/rest/m?auth=" + secret
	request := func() *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	clean := &http.Request{URL: new(url.URL)}
	for name, all := range map[string][]told{
		"an error":                         tellError(plain),
		"an error within one":              tellError(quoting{inner: plain}),
		"an error among several":           tellError(several{errors.New("clean"), quoting{inner: plain}}),
		"a field that only %+v shows":      tellError(quoting{Field: secret}),
		"the URL of a *url.Error":          tellError(quoting{inner: &url.Error{Op: "Get", URL: at, Err: errors.New("clean")}}),
		"the body of a RetrieveError":      tellError(&oauth2.RetrieveError{Response: new(http.Response), ErrorCode: "x", Body: []byte(secret)}),
		"the response of a RetrieveError":  tellError(&oauth2.RetrieveError{Response: &http.Response{Request: request()}, ErrorCode: "x"}),
		"a TokenError's description":       tellError(&b24oauth.TokenError{Code: "x", Description: secret}),
		"an event's error":                 tellEvent(b24oauth.Event{Err: quoting{inner: plain}}),
		"an event's code":                  tellEvent(b24oauth.Event{Code: secret}),
		"a log line":                       {{"a log line", logged("a", slog.StringValue(secret))}},
		"a response's Location":            tellResponse(&http.Response{Header: http.Header{"Location": {at}}, Request: clean}),
		"a response's request":             tellResponse(&http.Response{Request: request()}),
		"the request before a redirect":    tellResponse(&http.Response{Request: &http.Request{URL: new(url.URL), Response: &http.Response{Request: request()}}}),
		"a header of a response's request": tellResponse(&http.Response{Request: &http.Request{URL: new(url.URL), Header: http.Header{"Referer": {at}}}}),
		"the query that a stranger saw":    tellStranger(t, at, nil),
		"the header that a stranger saw":   tellStranger(t, "/", http.Header{"Authorization": {"Bearer " + secret}}),
		"a file":                           tellPlantedFile(t, "name", secret),
		"the name of a file":               tellPlantedFile(t, secret, "content"),
		"an attribute of a span":           tellPlantedSpan(t, secret),
	} {
		if !c.anywhere(all) {
			t.Errorf("a secret in %s is not found", name)
		}
	}
	for name, print := range map[string]func(){
		"stdout":             func() { fmt.Println(secret) },
		"stderr":             func() { fmt.Fprint(os.Stderr, secret) },
		"the log package":    func() { log.Print(secret) },
		"the default logger": func() { slog.Info(secret) },
	} {
		output := capture(t)
		print()
		if !c.anywhere(output()) {
			t.Errorf("a secret on %s is not found", name)
		}
	}
}

// anywhere reports whether a secret is in what came out.
func (c *canaries) anywhere(all []told) bool {
	for _, one := range all {
		if len(c.in(one.text)) > 0 {
			return true
		}
	}
	return false
}

func tellStranger(t *testing.T, at string, header http.Header) []told {
	t.Helper()
	s := newStranger(t)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/?"+u.RawQuery, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return s.tell()
}

func tellPlantedFile(t *testing.T, name, content string) []told {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return tellFiles(t, dir)
}
