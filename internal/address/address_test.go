package address_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/address"
)

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestEndpointComesOutInOneForm(t *testing.T) {
	for from, want := range map[string]string{
		"https://portal.example/rest/":          "https://portal.example/rest/",
		"https://PORTAL.example:443/rest":       "https://portal.example/rest/",
		"https://portal.example:8443/rest":      "https://portal.example:8443/rest/",
		"https://портал.example/rest/":          "https://xn--80awhdgm.example/rest/",
		"http://127.0.0.1:80/rest/":             "http://127.0.0.1/rest/",
		"http://portal.localhost//rest//":       "http://portal.localhost/rest/",
		"http://[::1]:8080/rest/":               "http://[::1]:8080/rest/",
		"https://portal.example/crm//rest":      "https://portal.example/crm/rest/",
		"https://portal.example/a b/../%C3%A4/": "https://portal.example/%C3%A4/",
	} {
		u, err := address.ParseEndpoint(from)
		if err != nil || u.String() != want {
			t.Errorf("ParseEndpoint(%s) = %v, %v; want %s", from, u, err, want)
		}
		if !address.SameEndpoint(from, want) {
			t.Errorf("%s and %s are not one portal", from, want)
		}
	}
}

func TestEndpointThatNoTokenMayGoToIsAnErrorThatQuotesNoSecret(t *testing.T) {
	for _, from := range []string{
		"", "portal.example", "https:///rest/", "http://portal.example/rest/", "ftp://portal.example/rest/",
		"https://secret:secret@portal.example/rest/", "https://portal.example/rest/?auth=secret", "https://portal.example/rest/#secret",
		"https://portal.example/", "https://portal.example", "https://portal.example/x/..", "https://portal.example/rest/1/secret/",
		"https://portal.example/rest/api/1/secret", "https://portal.example\x7f/rest/?secret",
	} {
		u, err := address.ParseEndpoint(from)
		if err == nil {
			t.Errorf("ParseEndpoint(%q) = %v", from, u)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseEndpoint(%q): %v", from, err)
		}
		if address.SameEndpoint(from, from) {
			t.Errorf("%q is taken for a portal", from)
		}
	}
}

func TestSecretsGoOverHTTPSOrStayOnThisMachine(t *testing.T) {
	for to, want := range map[string]bool{
		"https://portal.example/":         true,
		"http://portal.example/":          false,
		"http://127.8.9.1:8080/":          true,
		"http://[::1]/":                   true,
		"http://LocalHost/":               true,
		"http://portal.localhost/":        true,
		"http://localhost.evil.example/":  false,
		"http://127.0.0.1.evil.example/":  false,
		"http://notlocalhost/":            false,
		"http://10.0.0.1/":                false,
		"ftp://127.0.0.1/":                false,
		"https+insecure://portal.example": false,
	} {
		if got := address.Secure(parse(t, to)); got != want {
			t.Errorf("Secure(%s) = %v", to, got)
		}
	}
}

func TestWebhooksAndSignedLinksBearTheirOwnSecret(t *testing.T) {
	for path, want := range map[string]bool{
		"/rest/1/s3cret/crm.deal.list":     true,
		"//rest//17//s3cret/m":             true,
		"/rest/x/../1/s3cret/m":            true,
		"/rest/api/1/s3cret/m":             true,
		"/rest/download.json?a=1&token=x":  true,
		"/rest/crm.deal.list":              false,
		"/rest/1/":                         false,
		"/rest/1":                          false,
		"/rest/api/tasks.task.get":         false,
		"/rest/a1/s3cret/m":                false,
		"/other/1/s3cret/m":                false,
		"/rest/m?mytoken=x&b=token=":       false,
		"/rest/m?filter[token]=x&atoken=1": false,
	} {
		if got := address.BearsOwnSecret(parse(t, "https://portal.example"+path), address.RestPath); got != want {
			t.Errorf("BearsOwnSecret(%s) = %v", path, got)
		}
	}
}

func TestPathBelowRESTIsFoundHoweverItIsWritten(t *testing.T) {
	for from, want := range map[string]string{
		"https://portal.example/rest/m":     "m",
		"https://portal.example//rest///m":  "m",
		"https://portal.example/rest/":      "",
		"https://portal.example/upload/m":   "",
		"https://portal.example/rest/api/m": "api/m",
	} {
		u := parse(t, from)
		if got := address.Method(u, address.RestPath); got != want {
			t.Errorf("Method(%s) = %q, want %q", from, got, want)
		}
		if got := address.IsV3(u, address.RestPath); got != strings.HasPrefix(want, "api/") {
			t.Errorf("IsV3(%s) = %v", from, got)
		}
		opaque := &url.URL{Scheme: "https", Host: "portal.example", Opaque: strings.TrimPrefix(from, "https:")}
		if got := address.Method(opaque, address.RestPath); got != want {
			t.Errorf("Method of the opaque %s = %q, want %q", opaque.Opaque, got, want)
		}
	}
}

func TestMethodsOfAPortalThatHasMovedThemAreFound(t *testing.T) {
	const base = "/crm/rest/"
	for path, want := range map[string]struct{ v3, own bool }{
		"/crm/rest/m":              {false, false},
		"/crm/rest/api/m":          {true, false},
		"/crm/rest/1/s3cret/m":     {false, true},
		"/crm/rest/api/1/s3cret/m": {true, true},
		"/rest/api/m":              {false, false},
		"/rest/1/s3cret/m":         {false, false},
	} {
		u := parse(t, "https://portal.example"+path)
		if v3, own := address.IsV3(u, base), address.BearsOwnSecret(u, base); v3 != want.v3 || own != want.own {
			t.Errorf("%s: version 3 %v, a secret of its own %v; want %v", path, v3, own, want)
		}
	}
}
