package integration

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

func TestCanaryPlantedAnywhereIsFound(t *testing.T) {
	var secrets canary.Secrets
	secret := secrets.Plant("secret")
	at := "http://portal.localhost/rest/m?auth=" + secret
	for name, all := range map[string][]canary.Output{
		"a TokenError's description":     canary.Error(&b24oauth.TokenError{Code: "x", Description: secret}),
		"an event's error":               ofEvent(b24oauth.Event{Err: fmt.Errorf("clean %.0w", errors.New(secret))}),
		"an event's code":                ofEvent(b24oauth.Event{Code: secret}),
		"the query that a stranger saw":  ofStranger(t, at, nil),
		"the header that a stranger saw": ofStranger(t, "/", http.Header{"Authorization": {"Bearer " + secret}}),
		"a file":                         ofPlantedFile(t, "name", secret),
		"the name of a file":             ofPlantedFile(t, secret, "content"),
		"an attribute of a span":         ofPlantedSpan(t, secret),
	} {
		if !anywhere(&secrets, all) {
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
		if !anywhere(&secrets, output()) {
			t.Errorf("a secret on %s is not found", name)
		}
	}
}

// anywhere reports whether a secret is in what came out.
func anywhere(secrets *canary.Secrets, all []canary.Output) bool {
	for _, one := range all {
		if len(secrets.In(one.Text)) > 0 {
			return true
		}
	}
	return false
}

func ofStranger(t *testing.T, at string, header http.Header) []canary.Output {
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
	return s.heard()
}

func ofPlantedFile(t *testing.T, name, content string) []canary.Output {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return ofFiles(t, dir)
}
