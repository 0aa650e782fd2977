package canary_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/canary"
)

// awkward is a secret that every escape changes.
const awkward = `a"<b+c/ &d=e>\CNRYbird?f`

func TestSecretIsFoundInEveryForm(t *testing.T) {
	var planted canary.Secrets
	plain := planted.Plant("secret")
	for _, test := range []struct {
		secrets *canary.Secrets
		value   string
	}{{&planted, plain}, {canary.Of(awkward), awkward}} {
		data, err := json.Marshal(test.value)
		if err != nil {
			t.Fatal(err)
		}
		forms := map[string]string{
			"as it is":              test.value,
			"in lower case":         strings.ToLower(test.value),
			"in upper case":         strings.ToUpper(test.value),
			"in a query":            url.Values{"auth": {test.value}}.Encode(),
			"in a query, folded":    strings.ToLower(url.QueryEscape(test.value)),
			"in a path":             "/rest/" + url.PathEscape(test.value),
			"in JSON":               string(data),
			"in quotes":             fmt.Sprintf("%q", test.value),
			"in hexadecimal":        fmt.Sprintf("%x", test.value),
			"in HEXADECIMAL":        fmt.Sprintf("%X", test.value),
			"under %d":              fmt.Sprintf("%d", []byte(test.value)),
			"under %v":              fmt.Sprintf("%v", []byte("?"+test.value+"?")),
			"under %#v":             fmt.Sprintf("%#v", []byte("?"+test.value+"?")),
			"its beginning":         test.value[:8],
			"its beginning, hex":    fmt.Sprintf("%x", test.value[:8]),
			"its beginning, base64": base64.StdEncoding.EncodeToString([]byte(test.value[:8])),
			"its first half":        test.value[:len(test.value)*3/5],
			"its end":               test.value[len(test.value)-16:],
			"in basic credentials":  base64.StdEncoding.EncodeToString([]byte("client:" + test.value)),
			"in a base64 of a path": base64.URLEncoding.EncodeToString([]byte("/?" + test.value + "&x")),
		}
		for before := range 6 {
			text := strings.Repeat("-", before) + test.value + strings.Repeat("?", 6-before)
			for name, e := range map[string]*base64.Encoding{
				"std": base64.StdEncoding, "url": base64.URLEncoding, "raw std": base64.RawStdEncoding, "raw url": base64.RawURLEncoding,
			} {
				forms[fmt.Sprintf("in base64 %s after %d bytes", name, before)] = e.EncodeToString([]byte(text))
			}
		}
		for name, text := range forms {
			if found := test.secrets.In("before " + text + " after"); len(found) != 1 {
				t.Errorf("%s: found %q in %q, want one", name, found, text)
			}
		}
	}
}

func TestPartFromTheMiddleIsFound(t *testing.T) {
	var secrets canary.Secrets
	value := secrets.Plant("secret")
	for at := range len(value) - 23 {
		if found := secrets.In(value[at : at+23]); len(found) != 1 {
			t.Errorf("found %q in the bytes from %d on", found, at)
		}
	}
}

func TestFingerprintIsNoSecret(t *testing.T) {
	var secrets canary.Secrets
	value := secrets.Plant("secret")
	sum := sha256.Sum256([]byte(value))
	for name, text := range map[string]string{
		"a fingerprint":         fmt.Sprintf("%x", sum[:4]),
		"a whole hash":          fmt.Sprintf("%x", sum),
		"a hash in base64":      base64.StdEncoding.EncodeToString(sum[:]),
		"less than a beginning": "nothing " + value[:7],
		"another secret":        new(canary.Secrets).Plant("another"),
		"nothing":               "",
	} {
		if found := secrets.In(text); len(found) != 0 {
			t.Errorf("found %q in %s", found, name)
		}
	}
}

func TestSecretTooShortToStandOutIsRejected(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a secret of 7 bytes is accepted")
		}
	}()
	canary.Of("1234567")
}

// deep is a value whose methods hide its field, except where one verb or one
// encoding passes them by.
type deep struct{ Field string }

func (deep) String() string               { return "clean" }
func (deep) GoString() string             { return "clean" }
func (deep) LogValue() slog.Value         { return slog.StringValue("clean") }
func (deep) MarshalJSON() ([]byte, error) { return []byte(`"clean"`), nil }
func (deep) MarshalText() ([]byte, error) { return []byte("clean"), nil }

type (
	underGo   struct{ deep }
	underLog  struct{ deep }
	underJSON struct{ deep }
	underXML  struct{ deep }
	underAll  struct{ deep }
)

func (u underGo) GoString() string               { return u.Field }
func (u underLog) LogValue() slog.Value          { return slog.StringValue(u.Field) }
func (u underJSON) MarshalJSON() ([]byte, error) { return json.Marshal(u.Field) }
func (u underXML) MarshalText() ([]byte, error)  { return []byte(u.Field), nil }
func (u underAll) Format(f fmt.State, _ rune)    { fmt.Fprint(f, u.Field) }

func TestValueAsksEveryWayOut(t *testing.T) {
	var secrets canary.Secrets
	hidden := deep{secrets.Plant("secret")}
	for name, v := range map[string]any{
		"%#v": underGo{hidden}, "slog": underLog{hidden}, "JSON": underJSON{hidden}, "XML": underXML{hidden}, "a Formatter": underAll{hidden},
	} {
		if !anywhere(&secrets, canary.Value("a value", v)) {
			t.Errorf("a secret that only %s shows is not found", name)
		}
	}
	if !anywhere(&secrets, canary.Value("bytes", struct{ B []byte }{[]byte(hidden.Field)})) {
		t.Error("a secret in bytes is not found")
	}
}

// quoting is an error that lets a secret out by one way only.
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

// coded is an error with a field that no verb and no encoding shows.
type coded struct{ Code string }

func (*coded) Error() string                { return "clean" }
func (*coded) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "clean") }
func (*coded) LogValue() slog.Value         { return slog.StringValue("clean") }
func (*coded) MarshalJSON() ([]byte, error) { return []byte(`"clean"`), nil }

// made is an error that becomes an *oauth2.RetrieveError when it is asked to.
type made struct{ body []byte }

func (*made) Error() string              { return "clean" }
func (*made) Format(f fmt.State, _ rune) { fmt.Fprint(f, "clean") }
func (m *made) As(target any) bool {
	e, ok := target.(**oauth2.RetrieveError)
	if ok {
		*e = &oauth2.RetrieveError{ErrorCode: "x", Body: m.body, Response: new(http.Response)}
	}
	return ok
}

func TestErrorAndResponseShowWhatTheyKeep(t *testing.T) {
	var secrets canary.Secrets
	secret := secrets.Plant("secret")
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
	for name, all := range map[string][]canary.Output{
		"an error":                         canary.Error(plain),
		"an error within one":              canary.Error(quoting{inner: plain}),
		"an error among several":           canary.Error(several{errors.New("clean"), quoting{inner: plain}}),
		"a field that only %+v shows":      canary.Error(quoting{Field: secret}),
		"a field that nothing shows":       canary.Error(&coded{secret}),
		"the URL of a *url.Error":          canary.Error(quoting{inner: &url.Error{Op: "Get", URL: at, Err: errors.New("clean")}}),
		"the body of a RetrieveError":      canary.Error(&oauth2.RetrieveError{Response: new(http.Response), ErrorCode: "x", Body: []byte(secret)}),
		"the body of one made by As":       canary.Error(&made{[]byte(secret)}),
		"the response of a RetrieveError":  canary.Error(&oauth2.RetrieveError{Response: &http.Response{Request: request()}, ErrorCode: "x"}),
		"a response's Location":            canary.Response(&http.Response{Header: http.Header{"Location": {at}}, Request: clean}),
		"a response's request":             canary.Response(&http.Response{Request: request()}),
		"the request before a redirect":    canary.Response(&http.Response{Request: &http.Request{URL: new(url.URL), Response: &http.Response{Request: request()}}}),
		"a header of a response's request": canary.Response(&http.Response{Request: &http.Request{URL: new(url.URL), Header: http.Header{"Referer": {at}}}}),
	} {
		if !anywhere(&secrets, all) {
			t.Errorf("a secret in %s is not found", name)
		}
	}
	clear := [][]canary.Output{canary.Error(nil), canary.Error(quoting{inner: errors.New("clean")}), canary.Response(nil), canary.Response(&http.Response{Request: clean})}
	for _, all := range clear {
		if anywhere(&secrets, all) {
			t.Errorf("found a secret in %q", all)
		}
	}
}

// recorder is a test that fails without an end.
type recorder struct {
	testing.TB
	errors []string
}

func (*recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestCheckNamesTheSecretAndThePlace(t *testing.T) {
	var secrets canary.Secrets
	value := secrets.Plant("refresh token")
	var r recorder
	secrets.Check(&r, "renewal", []canary.Output{{Place: "the log", Text: "clean"}, {Place: "an event", Text: value}})
	if len(r.errors) != 1 || !strings.HasPrefix(r.errors[0], "renewal: refresh token, as it is, is in an event: ") {
		t.Errorf("reported %q", r.errors)
	}
}

func anywhere(secrets *canary.Secrets, all []canary.Output) bool {
	for _, one := range all {
		if len(secrets.In(one.Text)) > 0 {
			return true
		}
	}
	return false
}
