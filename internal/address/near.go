package address

import (
	"net/url"
	"strings"
)

// A Miss says by what an address misses a portal that was meant, it seems. A
// request that goes elsewhere by mistake gets no token, and a refusal that says
// nothing of the reason.
type Miss int

const (
	Elsewhere   Miss = iota // another host's address: nothing was missed
	InTheClear              // http, to a host of the portal's own: everybody on the way reads the request
	OtherScheme             // neither https nor http, or http and https on this machine
	OtherPort
	OtherZone    // the same name under another of Bitrix24's domains
	OtherWriting // the same host, written in a way that is not compared as the same
)

// Near says by what u, which is not the portal's, misses it or one of the
// hosts that it had before.
func Near(u *url.URL, portal Portal, former []string) Miss {
	miss := near(u, portal.Scheme, portal.Host)
	for _, host := range former {
		if m := near(u, "https", host); m == InTheClear || miss == Elsewhere {
			miss = m
		}
	}
	return miss
}

func near(u *url.URL, scheme, host string) Miss {
	own := url.URL{Scheme: scheme, Host: host}
	is, want := CanonicalHost(u), own.Hostname()
	name := strings.TrimSuffix((&url.URL{Host: is}).Hostname(), ".")
	switch {
	case name != want && name != "" && zoneless(name) == zoneless(want):
		return OtherZone
	case name != want:
		return Elsewhere
	case u.Scheme == "http" && scheme == "https" && !IsLoopback(name):
		return InTheClear
	case effectivePort(u) != effectivePort(&own) && u.Port() != own.Port():
		return OtherPort
	case u.Scheme != scheme:
		return OtherScheme
	}
	return OtherWriting
}

// zoneless returns the name of a portal in Bitrix24's cloud without the domain
// of its zone, and of any other host the whole name.
func zoneless(host string) string {
	const domain = ".bitrix24."
	label, zone, ok := strings.Cut(host, domain)
	country := strings.TrimPrefix(strings.TrimPrefix(zone, "com."), "co.") // bitrix24.com.br, bitrix24.co.id
	if !ok || label == "" || country == "" || strings.Contains(country, ".") {
		return host
	}
	return label + domain
}

// effectivePort returns the port that u leads to, as far as it is known.
func effectivePort(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "http":
		return "80"
	}
	return ""
}

// HasPlainToken reports whether u is a method below base with a field named
// token in its query that is no signature of Bitrix24's, whose parts are
// divided by a bar, and without a token in auth. It passes for a signed link
// all the same.
func HasPlainToken(u *url.URL, base string) (plain bool) {
	if method := Method(u, base); method == "" || isWebhook(method) {
		return false
	}
	for field := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "auth":
			return false
		case "token":
			plain = !strings.Contains(value, "|") && !strings.Contains(strings.ToUpper(value), "%7C")
		}
	}
	return plain
}
