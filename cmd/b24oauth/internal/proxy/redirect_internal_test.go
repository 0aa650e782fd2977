package proxy

import (
	"net/url"
	"testing"
)

func TestAPortalIsKnownByAnySpellingOfItsAddress(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"https://example.bitrix24.com/rest/", "example.bitrix24.com"},
		{"https://Example.Bitrix24.com:443/rest/", "example.bitrix24.com"},
		{"http://example.bitrix24.com:80/rest/", "example.bitrix24.com"},
		{"https://example.bitrix24.com:8443/rest/", "example.bitrix24.com:8443"},
		{"https://example.bitrix24.com.evil.example/rest/", "example.bitrix24.com.evil.example"},
		{"https://example.bitrix24.com@evil.example/rest/", "evil.example"},
	} {
		u, err := url.Parse(test.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := authority(u); got != test.want {
			t.Errorf("%s is %q, want %q", test.address, got, test.want)
		}
	}
}
