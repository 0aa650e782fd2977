package address_test

import (
	"net/url"
	"testing"

	"github.com/b24go/b24oauth/internal/address"
)

// privateHosts are such as they may stand in a URL, and whether they are
// private.
var privateHosts = map[string]bool{
	"127.0.0.1": true, "127.8.9.1:8080": true, "10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true,
	"169.254.169.254": true, "100.64.0.1": true, "100.127.255.255": true, "0.0.0.0": true, "0.1.2.3": true, "192.0.0.8": true,
	"198.18.0.1": true, "203.0.113.9": true, "224.0.0.1": true, "240.0.0.1": true, "255.255.255.255": true,
	"[::1]:443": true, "[::]": true, "[fc00::1]": true, "[fd12::1]": true, "[fe80::1]": true, "[fe80::1%25eth0]": true,
	"[2a00::1%25eth0]": true, "[fec0::1]": true, "[ff02::1]": true, "[::ffff:127.0.0.1]": true, "[::ffff:a00:1]": true,
	"[::127.0.0.1]": true, "[64:ff9b::7f00:1]": true, "[2002:7f00:1::]": true, "[2001:db8::1]": true, "[2001::1]": true,
	"2130706433": true, "0x7f000001": true, "0X7F.1": true, "127.1": true, "0177.0.0.1": true, "017700000001": true, "127.0.0.1.": true,
	"0x": true, "1.2.3.4.5": true, "8.8.8.0x8": true, "127.0.0.256": true,
	"１２７.０.０.１": true, "127。0。0。1": true, "%EF%BC%91.1": true,
	"localhost": true, "LocalHost:80": true, "localhost.": true, "portal.localhost": true, "portal.LOCALHOST.:443": true, "ⓛocalhost": true,
	"localhost.localdomain": true, "localhost6": true, "ip6-loopback": true,

	"portal.bitrix24.com": false, "portal.bitrix24.com.": false, "портал.рф": false, "8.8.8.8": false, "1.1.1.1:8443": false,
	"100.63.255.255": false, "100.128.0.0": false, "172.15.0.1": false, "172.32.0.1": false, "192.169.0.1": false, "223.255.255.255": false,
	"[2a00:1450:4001::1]": false, "[2606:4700::1111]:443": false, "[::ffff:8.8.8.8]": false,
	"localhost.example": false, "notlocalhost.example": false, "127.0.0.1.example": false, "10.example": false, "0x7f.example": false,
	"24.bitrix24.com": false, "x0x7f": false, "1c.ru": false, "portal.0xyz": false,
}

func TestPrivateHostsAreKnownHoweverTheyAreWritten(t *testing.T) {
	for host, want := range privateHosts {
		u, err := url.Parse("https://" + host + "/rest/")
		if err != nil {
			t.Fatal(err)
		}
		if got := address.IsPrivate(u); got != want {
			t.Errorf("IsPrivate(%s) = %t", host, got)
		}
	}
}
