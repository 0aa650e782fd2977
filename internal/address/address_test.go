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
		"/rest/1/s3cret/crm.deal.list":       true,
		"//rest//17//s3cret/m":               true,
		"/rest/x/../1/s3cret/m":              true,
		"/rest/api/1/s3cret/m":               true,
		"/rest/download.json?a=1&token=x":    true,
		"/rest/crm.deal.list":                false,
		"/rest/1/":                           false,
		"/rest/1":                            false,
		"/rest/api/tasks.task.get":           false,
		"/rest/a1/s3cret/m":                  false,
		"/other/1/s3cret/m":                  false,
		"/rest/m?mytoken=x&b=token=":         false,
		"/rest/m?filter[token]=x&atoken=1":   false,
		"/rest/m?auth[aplogin]=1&auth[ap]=x": true,
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

func TestOpaqueIsReadAsItIsSent(t *testing.T) {
	for _, c := range []struct{ opaque, rawQuery, path, query, method string }{
		{"/rest/a%2Fb", "x=1", "/rest/a%2Fb", "x=1", "a/b"},
		{"//portal.example/rest/m", "", "/rest/m", "", "m"},
		{"//evil.example/rest/m", "x=1", "/rest/m", "x=1", "m"},
		{"https://evil.example/rest/m?a=1", "x=1", "/rest/m", "a=1?x=1", "m"},
		{"/rest/m?a=1", "", "/rest/m", "a=1", "m"},
		{"//evil.example", "", "/", "", ""},
		{"//evil.example?a=1", "", "/", "a=1", ""},
		{"//evil.example//rest/m", "", "//rest/m", "", "m"},
		{"///rest/m", "", "/rest/m", "", "m"},
		{"rest/m", "", "/rest/m", "", "m"},
		{"evil.example:443", "", "/evil.example:443", "", ""},
		{"/rest/m?back=https://evil.example/x", "", "/rest/m", "back=https://evil.example/x", "m"},
		{"/rest/%zz", "", "/rest/%zz", "", "%zz"},
	} {
		u := &url.URL{Scheme: "https", Host: "portal.example", Opaque: c.opaque, RawQuery: c.rawQuery}
		path, query := address.SplitOpaque(u)
		if method := address.Method(u, address.RestPath); path != c.path || query != c.query || method != c.method {
			t.Errorf("%s: %q, %q, method %q; want %q, %q, %q", c.opaque, path, query, method, c.path, c.query, c.method)
		}
	}
	for opaque, want := range map[string]bool{
		"/rest/%31/s3cret/m": true, "//evil.example/rest/1/s3cret/m": true, "http://evil.example/rest/1/s3cret/m": true,
		"/rest/m?token=x": true, "/rest/m?aplogin=1": false, "/rest/m": false,
	} {
		if got := address.BearsOwnSecret(&url.URL{Scheme: "https", Host: "portal.example", Opaque: opaque}, address.RestPath); got != want {
			t.Errorf("BearsOwnSecret(%s) = %v", opaque, got)
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

func TestMissIsToldFromAnotherHost(t *testing.T) {
	cloud := address.Portal{Scheme: "https", Host: "example.bitrix24.com", Path: address.RestPath}
	own := address.Portal{Scheme: "https", Host: "portal.example:8443", Path: address.RestPath}
	local := address.Portal{Scheme: "http", Host: "localhost:8080", Path: address.RestPath}
	former := []string{"old.example", "old.bitrix24.de", "ported.example:8443"}
	for _, c := range []struct {
		url    string
		portal address.Portal
		want   address.Miss
	}{
		{"https://example.bitrix24.ru/rest/m", cloud, address.OtherZone},
		{"https://EXAMPLE.bitrix24.com.br/rest/m", cloud, address.OtherZone},
		{"http://example.bitrix24.ru/rest/m", cloud, address.OtherZone},
		{"https://old.bitrix24.eu/rest/m", cloud, address.OtherZone},
		{"https://another.bitrix24.com/rest/m", cloud, address.Elsewhere},
		{"https://example.bitrix24.com.evil.example/rest/m", cloud, address.Elsewhere},
		{"https://example.bitrix24.evil.example/rest/m", cloud, address.Elsewhere},
		{"https://bitrix24.com/", cloud, address.Elsewhere},
		{"https://portal.example/rest/m", cloud, address.Elsewhere},
		{"https://example.com/rest/m", cloud, address.Elsewhere},
		{"https:///rest/m", cloud, address.Elsewhere},
		{"http://example.bitrix24.com/rest/m", cloud, address.InTheClear},
		{"http://Example.Bitrix24.com:80/", cloud, address.InTheClear},
		{"http://example.bitrix24.com:443/rest/m", cloud, address.InTheClear},
		{"http://example.bitrix24.com./rest/m", cloud, address.InTheClear},
		{"http://old.example/rest/m", cloud, address.InTheClear},
		{"http://ported.example/rest/m", cloud, address.InTheClear},
		{"http://portal.example/rest/m", own, address.InTheClear},
		{"http://portal.example:8443/rest/m", own, address.InTheClear},
		{"https://portal.example/rest/m", own, address.OtherPort},
		{"https://example.bitrix24.com:8443/rest/m", cloud, address.OtherPort},
		{"https://old.example:8443/rest/m", cloud, address.OtherPort},
		{"https://example.bitrix24.com./rest/m", cloud, address.OtherWriting},
		{"https://localhost:8080/rest/m", local, address.OtherScheme},
		{"http://localhost:8081/rest/m", local, address.OtherPort},
		{"http://old.example/rest/m", local, address.InTheClear},
		{"http://127.0.0.1:8080/rest/m", local, address.Elsewhere},
		{"ftp://example.bitrix24.com/m", cloud, address.OtherScheme},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := address.Near(u, c.portal, former); got != c.want {
			t.Errorf("%s misses %s by %d, want %d", c.url, c.portal.Host, got, c.want)
		}
	}
}

func TestTokenThatIsNoSignatureIsToldFromASignedLink(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://p/rest/crm.deal.list?token=abc":               true,
		"https://p/rest/api/tasks.task.get?a=1&token=abc":      true,
		"https://p//rest/crm.deal.list?token=":                 true,
		"https://p/rest/download.json?token=disk%7Cx%7Cy":      false,
		"https://p/rest/download.json?token=disk%7cx%7cy":      false,
		"https://p/rest/download.json?token=disk|x|y":          false,
		"https://p/rest/crm.deal.list?auth=a&token=abc":        false,
		"https://p/rest/crm.deal.list?mytoken=abc":             false,
		"https://p/upload/f?token=abc":                         false,
		"https://p/rest/1/s3cret/crm.deal.list?token=abc":      false,
		"https://p/rest/api/1/s3cret/tasks.task.get?token=abc": false,
		"https://p/rest/?token=abc":                            false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := address.HasPlainToken(u, address.RestPath); got != want {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
}
