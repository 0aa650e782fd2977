package integration

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// A canary is a secret that stands out: where it is found, a secret got out.
type canary struct {
	what, value string
	folded      map[string]string // what it looks like in lower case, and what that is called
	exact       map[string]string // the same where the case of letters matters
}

const part = 16 // bytes of a secret that nobody may learn

func newCanary(what, value string) canary {
	c := canary{what, value, make(map[string]string), make(map[string]string)}
	for at := 0; at+part <= len(value); at += part / 2 {
		c.folded[strings.ToLower(value[at:at+part])] = "in part"
	}
	for form, s := range map[string]string{
		"as it is":         value,
		"in a query":       url.QueryEscape(value),
		"in a path":        url.PathEscape(value),
		"in hexadecimal":   hex.EncodeToString([]byte(value)),
		"escaped for JSON": escapedJSON(value),
	} {
		c.folded[strings.ToLower(s)] = form
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			c.exact[inBase64(encoding, value, before)] = fmt.Sprintf("in base64 after %d bytes", before)
		}
	}
	return c
}

// in returns the form in which a text tells the secret, "" if it does not.
func (c canary) in(text, folded string) string {
	for s, form := range c.folded {
		if strings.Contains(folded, s) {
			return form
		}
	}
	for s, form := range c.exact {
		if strings.Contains(text, s) {
			return form
		}
	}
	return ""
}

// canaries are the secrets of one scenario.
type canaries struct {
	mu   sync.Mutex
	list []canary
}

// plant makes up a secret.
func (c *canaries) plant(what string) string {
	value := "cnry" + rand.Text() + strings.ToLower(rand.Text()[:10])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, newCanary(what, value))
	return value
}

// in returns what text tells of the secrets, as they are or in any of the
// forms in which a program writes them.
func (c *canaries) in(text string) (found []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	folded := strings.ToLower(text)
	for _, secret := range c.list {
		if form := secret.in(text, folded); form != "" {
			found = append(found, secret.what+" "+form)
		}
	}
	return found
}

// inBase64 returns the digits that depend on s alone if so many bytes, modulo
// three, stand before it.
func inBase64(encoding *base64.Encoding, s string, before int) string {
	digits := encoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
	return digits[(before*8+5)/6 : (before+len(s))*8/6]
}

func escapedJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(b), `"`)
}

// told is all that came out at some place.
type told struct{ place, text string }

// check reports every secret in what came out.
func (c *canaries) check(t *testing.T, scenario string, all []told) {
	t.Helper()
	leaks := 0
	for _, one := range all {
		for _, found := range c.in(one.text) {
			if leaks++; leaks > 5 {
				return // enough to go by
			}
			t.Errorf("%s: %s is in %s: %.600s", scenario, found, one.place, one.text)
		}
	}
}

// tellError is everything that a program can get out of an error: every verb,
// JSON, the log, and the same of each error within it.
func tellError(err error) []told {
	if err == nil {
		return nil
	}
	all := tellValue("the error", err)
	all = append(all, told{"a log line of the error", logged("error", err)})
	var ue *url.Error
	if errors.As(err, &ue) {
		all = append(all, tellValue("the *url.Error", *ue)...)
		all = append(all, told{"the URL of the *url.Error", ue.URL})
	}
	var re *oauth2.RetrieveError
	if errors.As(err, &re) {
		all = append(all, tellValue("the *oauth2.RetrieveError", *re)...)
		all = append(all, told{"the body of the *oauth2.RetrieveError", string(re.Body)})
		all = append(all, tellResponse(re.Response)...)
	}
	var te *b24oauth.TokenError
	if errors.As(err, &te) {
		all = append(all, tellValue("the *TokenError", *te)...)
		all = append(all, told{"the description", te.Description}, told{"the code", te.Code}, told{"the key", te.Key})
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, tellError(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, tellError(inner)...)
		}
	}
	return all
}

// tellValue is what fmt and encoding/json make of a value.
func tellValue(what string, v any) []told {
	var all []told
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		all = append(all, told{what + " under " + verb, fmt.Sprintf(verb, v)})
	}
	for _, wrapped := range []any{v, struct{ Field any }{v}, []any{v}} {
		b, err := json.Marshal(wrapped)
		if err != nil {
			b = []byte(err.Error())
		}
		all = append(all, told{what + " as JSON", string(b)})
	}
	return all
}

// logged is a value in lines of slog.
func logged(name string, v any) string {
	var b strings.Builder
	slog.New(everyHandler(&b)).Error("message", name, v, slog.Group("group", slog.Any(name, []any{v})))
	return b.String()
}

// tellResponse is what a caller has in hand with a response, but its body:
// what the portal says there is the caller's.
func tellResponse(resp *http.Response) []told {
	if resp == nil {
		return nil
	}
	all := []told{
		{"the status", resp.Status},
		{"the response's header", fmt.Sprint(resp.Header, resp.Trailer)},
		{"the response under %+v", fmt.Sprintf("%+v", resp)},
	}
	if resp.Request == nil {
		return all
	}
	all = append(all,
		told{"resp.Request under %+v", fmt.Sprintf("%+v", resp.Request)},
		told{"resp.Request", fmt.Sprint(resp.Request.URL, resp.Request.Header, resp.Request.Form, resp.Request.PostForm)},
	)
	return append(all, tellResponse(resp.Request.Response)...)
}
