// Package canary finds the secrets of a test in whatever a program lets out. A
// leak hides in an escape, an encoding or one verb of fmt, and in a search for
// the plain value it passes for none.
package canary

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	beginning = 8  // bytes: a secret that was cut short is found by them
	part      = 16 // bytes: so many from anywhere in a secret let it out too
)

// Secrets are the canaries of one test: values that must turn up nowhere. The
// zero value is ready. It is safe for concurrent use.
type Secrets struct {
	mu   sync.Mutex // guards list
	list []secret
}

// Of returns those that a test has values for already. Each is ASCII, at least
// 8 bytes long, and begins with 8 bytes that stand nowhere else.
func Of(values ...string) *Secrets {
	s := new(Secrets)
	for _, value := range values {
		s.list = append(s.list, newSecret(value, value))
	}
	return s
}

// Plant makes up a secret, which In and Check call what.
func (s *Secrets) Plant(what string) (value string) {
	value = "cnry" + rand.Text() + strings.ToLower(rand.Text()[:10])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, newSecret(what, value))
	return value
}

// In returns which secrets are in text and in which form, each once.
func (s *Secrets) In(text string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	folded := strings.ToLower(text)
	for _, secret := range s.list {
		if name, ok := secret.in(text, folded); ok {
			found = append(found, secret.what+", "+name)
		}
	}
	return found
}

// Check reports as an error of t each secret in what came out of a scenario.
func (s *Secrets) Check(t testing.TB, scenario string, all []Output) {
	t.Helper()
	leaks := 0
	for _, one := range all {
		for _, found := range s.In(one.Text) {
			if leaks++; leaks > 5 {
				return // enough to go by
			}
			t.Errorf("%s: %s, is in %s: %.600s", scenario, found, one.Place, one.Text)
		}
	}
}

type secret struct {
	what   string
	folded []form // searched for in a text in lower case, whose letters may have had any
	exact  []form
}

type form struct{ name, text string }

func newSecret(what, value string) secret {
	if len(value) < beginning {
		panic(fmt.Sprintf("canary: %q is too short to stand out", value))
	}
	s := secret{what: what}
	s.addForms(value[:beginning])
	for at := 0; at+part <= len(value); at += part / 2 {
		s.folded = append(s.folded, form{"in part", strings.ToLower(value[at : at+part])})
	}
	if len(value) > part {
		s.folded = append(s.folded, form{"in part", strings.ToLower(value[len(value)-part:])})
	}
	return s
}

// addForms adds all forms in which a program writes the beginning of the
// secret. Each of them begins what it makes of the whole secret.
func (s *secret) addForms(piece string) {
	known := make(map[string]bool)
	add := func(to *[]form, name, text string) {
		if !known[text] {
			known[text] = true
			*to = append(*to, form{name, text})
		}
	}
	for _, f := range []form{
		{"as it is", piece},
		{"in a query", url.QueryEscape(piece)},
		{"in a path", url.PathEscape(piece)},
		{"in hexadecimal", hex.EncodeToString([]byte(piece))},
		{"escaped for JSON", escapedJSON(piece)},
		{"in quotes", strings.TrimSuffix(strings.TrimPrefix(strconv.Quote(piece), `"`), `"`)},
		{"as bytes", strings.Trim(fmt.Sprint([]byte(piece)), "[]")},
		{"as bytes in Go", bytesInGo(piece)},
	} {
		add(&s.folded, f.name, strings.ToLower(f.text))
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			add(&s.exact, fmt.Sprintf("in base64 after %d bytes", before), inBase64(encoding, piece, before))
		}
	}
}

// in returns the name of the first form in which the secret is in text.
func (s secret) in(text, folded string) (name string, ok bool) {
	for _, f := range s.folded {
		if strings.Contains(folded, f.text) {
			return f.name, true
		}
	}
	for _, f := range s.exact {
		if strings.Contains(text, f.text) {
			return f.name, true
		}
	}
	return "", false
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
	return strings.TrimSuffix(strings.TrimPrefix(string(b), `"`), `"`)
}

// bytesInGo is what %#v makes of the bytes of s.
func bytesInGo(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(s)), "[]byte{"), "}")
}
