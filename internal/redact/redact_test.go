package redact_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/redact"
)

const secret = "a secret/with+signs"

func TestErrorThatQuotesNoSecretIsHandedOn(t *testing.T) {
	for _, err := range []error{nil, io.EOF, fmt.Errorf("read: %w", io.EOF)} {
		if got := redact.Error(err, secret, ""); got != err {
			t.Errorf("Error(%v) = %v", err, got)
		}
	}
}

func TestErrorLosesTheSecretAndKeepsItsHarmlessCauses(t *testing.T) {
	type hidden struct{ Secret *string }
	text := secret
	for name, err := range map[string]error{
		"plain":        fmt.Errorf("bad value %s: %w", secret, io.ErrUnexpectedEOF),
		"in a URL":     &url.Error{Op: "Get", URL: "https://portal.example/?auth=" + url.QueryEscape(secret) + "&id=1", Err: io.ErrUnexpectedEOF},
		"in one cause": errors.Join(errors.New(secret), io.ErrUnexpectedEOF),
		"only in JSON": fmt.Errorf("%w", &shownByJSON{hidden{&text}}),
	} {
		got := redact.Error(err, secret)
		data, failure := json.Marshal(got)
		if failure != nil {
			t.Fatal(failure)
		}
		for _, shown := range []string{fmt.Sprintf("%v %+v %#v", got, got, got), string(data)} {
			if redact.Quotes(shown, secret) || strings.Contains(shown, "id=1") {
				t.Errorf("%s: %s", name, shown)
			}
		}
		if !errors.Is(got, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v is not its cause any more", name, got)
		}
	}
}

func TestRedactedTimeoutIsStillANetError(t *testing.T) {
	for _, cause := range []error{context.DeadlineExceeded, context.Canceled} {
		err := redact.Error(fmt.Errorf("%s: %w", secret, cause), secret)
		ne, ok := err.(net.Error)
		temporary, also := err.(interface{ Temporary() bool })
		if want := cause == context.DeadlineExceeded; !ok || ne.Timeout() != want || !also || temporary.Temporary() != want {
			t.Errorf("%v: a net.Error: %v; want one that is a timeout: %v", err, ok, want)
		}
	}
}

// shownByJSON has a secret behind a pointer, where fmt does not look.
type shownByJSON struct{ Hidden any }

func (*shownByJSON) Error() string { return "harmless" }
func (*shownByJSON) Unwrap() error { return io.ErrUnexpectedEOF }

func TestHostIsQuotedWholeOrNotAtAll(t *testing.T) {
	for host, want := range map[string]string{
		"portal.bitrix24.com:8443":        `"portal.bitrix24.com:8443"`,
		strings.Repeat("x", 185) + secret: `"` + strings.Repeat("x", 185) + secret + `"`,
		strings.Repeat("x", 250) + secret: "of 269 bytes",
	} {
		if got := redact.Host(host); got != want {
			t.Errorf("Host(%q) = %s, want %s", host, got, want)
		}
	}
}

func TestErrorOfTheClientLosesOnlyItsURL(t *testing.T) {
	reason := errors.New("reason")
	proxy := fmt.Errorf("the proxy said: %w", &url.Error{Op: "Get", URL: "https://x/?s=secret", Err: reason})
	for _, inner := range []error{reason, proxy, errors.Join(reason, proxy)} {
		if got := redact.WithoutURL(&url.Error{Op: "Get", URL: "https://x/?s=secret", Err: inner}); got != inner {
			t.Errorf("WithoutURL = %v, want %v", got, inner)
		}
		if got := redact.WithoutURL(inner); got != inner {
			t.Errorf("WithoutURL(%v) = %v", inner, got)
		}
	}
	if got := redact.WithoutURL(&url.Error{Op: "Get", URL: "https://x/?s=secret"}); got == nil || strings.Contains(got.Error(), "secret") {
		t.Errorf("without a reason: %v", got)
	}
}

func TestPanicTellsTheRuntimesWordsAndOfOthersTheTypeAlone(t *testing.T) {
	for value, want := range map[any]string{secret: "a value of type string", errors.New(secret): "a value of type *errors.errorString"} {
		if got := redact.Panic(value); got != want {
			t.Errorf("Panic(%T) = %q, want %q", value, got, want)
		}
	}
	defer func() {
		if got := redact.Panic(recover()); !strings.Contains(got, "index out of range") {
			t.Errorf("a panic of the runtime: %q", got)
		}
	}()
	_ = []int{}[len(secret)]
}

func TestShortenedTextStaysValid(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("é", 100), strings.Repeat("€", 100)} {
		got := redact.Shorten(text)
		if len(text) <= 200 && got != text || len(got) > 204 || strings.ToValidUTF8(got, "") != got {
			t.Errorf("Shorten(%q) = %q", text, got)
		}
	}
}
