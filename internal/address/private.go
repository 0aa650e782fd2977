package address

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// IsPrivate reports whether u leads to an address that is no public one,
// whoever resolves it: to this machine, its own network or a range that the
// IANA keeps for special purposes. No name is resolved for it: of names only
// those are private that lead to this machine by themselves, and such as are
// numbers to some resolvers (2130706433, 0x7f.1, 127.1).
func IsPrivate(u *url.URL) bool {
	host := (&url.URL{Host: CanonicalHost(u)}).Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return !IsPublic(addr)
	}
	host = strings.TrimRight(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	return isNumber(last) || slices.Contains(localNames, last) || strings.Contains(host, "%")
}

// localNames are the names of this machine, and the domains of such names, by
// RFC 6761 or in the hosts file of usual systems.
var localNames = []string{
	"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "localdomain", "localdomain4", "localdomain6",
}

// isNumber reports whether a host whose last part is this may be a number to
// getaddrinfo. No public domain is one.
func isNumber(last string) bool {
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// IsPublic reports whether an address is one of the Internet's.
func IsPublic(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	return (addr.Is4() || globalUnicast.Contains(addr)) && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// globalUnicast is what of IPv6 is given out at all.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// special is what IANA's special-purpose address registries list, and
// multicast. An address of 2002::/16 has one of IPv4 in it.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
}
