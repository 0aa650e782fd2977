// Package install reads what Bitrix24 posts to an application: the tokens with
// which it is installed or opened, and the events after that.
//
// Nobody vouches for these requests: every user of a portal can read his own
// tokens and the portal's application token, and post them mixed with others'. Have
// the authorization server confirm what arrives, and prove its refresh token,
// before it takes the place of anything:
//
//	grant, err := install.ReadGrant(r)
//	…
//	info, err := config.Confirm(ctx, grant)          // whose the access token is
//	…
//	err = config.Redeem(ctx, grant.MemberID, grant, func(ctx context.Context, renewed *b24oauth.Grant) error {
//		… // whose the pair is: a user whom the program accepts, such as an administrator
//	})
//
// What a forged request cannot do is have the client secret sent elsewhere,
// since neither accepts other than the known authorization servers, nor name a
// private address, such as this machine's, as the portal: that is an
// error unless [Reader.AllowPrivate] is set. Names are not resolved: one may lead
// to a private address.
package install

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/redact"
)

// A Reader reads grants and events. The zero value is for portals in Bitrix24's cloud and
// others on the Internet. It is safe for concurrent use as long as its fields
// are not changed.
type Reader struct {
	// AllowPrivate takes portals at a private address too, as a self-hosted
	// portal of one's own company or one of a test has: loopback, RFC 1918 and
	// the like, names under localhost, and numbers that some resolvers take for
	// an address. Anybody who can reach the installation's address can then
	// have the program call any of these. No name is resolved to find out
	// whether it leads to one, whatever AllowPrivate says.
	AllowPrivate bool
}

// ReadGrant is ReadGrant of the zero [Reader].
func ReadGrant(r *http.Request) (*b24oauth.Grant, error) { return Reader{}.ReadGrant(r) }

// ReadGrant returns the grant in a request of Bitrix24's: the POST that opens
// the application, or its install page, in a frame, or one of the events that
// bring a pair of tokens for the application: ONAPPINSTALL, ONAPPUPDATE,
// ONSUBSCRIPTIONRENEW, ONAPPTEST and ONAPPUSERREADY, whose pair is that of the
// system user for whom the application is to work, and not the one of the employee
// who installed it. It reads the request's form, at most 64 KiB of it, and changes
// nothing else. The lifetime of the access token counts from now. The request
// proves nothing: see above before the grant is stored.
//
// Any other request is an error, as is one without both tokens, with a field of
// interest twice, or of a portal at a private address. Errors tell what is wrong
// and no secret. Where else the tokens and the client secret may go is not judged
// here but by [b24oauth.Config.Confirm], [b24oauth.Config.Redeem] and
// [b24oauth.Config.Save].
func (rd Reader) ReadGrant(r *http.Request) (*b24oauth.Grant, error) {
	f, err := readForm(r, maxGrant)
	if err != nil {
		return nil, err
	}
	if !f.has("event") {
		return rd.checked(frameGrant(f))
	}
	e := readEvent(f)
	if !bringsPair[e.Name] {
		return nil, fmt.Errorf("b24oauth/install: the event %.100q brings no pair of tokens for the application: ONAPPINSTALL, ONAPPUPDATE, ONSUBSCRIPTIONRENEW, ONAPPTEST and ONAPPUSERREADY do", e.Name)
	}
	return rd.checked(e.Grant, f.err)
}

// checked returns the grant if it has a pair and its portal may be named.
func (rd Reader) checked(g *b24oauth.Grant, err error) (*b24oauth.Grant, error) {
	if err == nil && (g.AccessToken == "" || g.RefreshToken == "") {
		err = errNoPair
	}
	if err == nil {
		err = rd.checkPortal(g)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// checkPortal refuses a portal at a private address. What is no URL to this
// package is none to Config.Save either, which says so.
func (rd Reader) checkPortal(g *b24oauth.Grant) error {
	if u, err := url.Parse(g.ClientEndpoint); err == nil && !rd.AllowPrivate && u.Hostname() != "" && address.IsPrivate(u) {
		return fmt.Errorf("b24oauth/install: the request names a portal at a private address (host %s): set AllowPrivate of install.Reader if this application is for self-hosted portals in a private network, or for a test", redact.Host(u.Host))
	}
	return nil
}

var errNoPair = errors.New("b24oauth/install: the request brings no pair of tokens: it must be the POST by which Bitrix24 opens or installs the application, or an event that does")

// frameGrant reads the POST that opens a page in a frame.
func frameGrant(f *form) (*b24oauth.Grant, error) {
	g := &b24oauth.Grant{
		MemberID:         f.get("member_id"),
		ServerEndpoint:   f.get("SERVER_ENDPOINT"),
		AccessToken:      f.get("AUTH_ID"),
		RefreshToken:     f.get("REFRESH_ID"),
		ApplicationToken: f.get("APPLICATION_TOKEN"),
		Issued:           f.now,
		Expiry:           f.now.Add(lifetime.Of(f.get("AUTH_EXPIRES"), "", f.now)),
		Scope:            f.get("APPLICATION_SCOPE"),
		Status:           f.get("status"),
	}
	endpoint, err := frameEndpoint(f.anywhere("DOMAIN"), f.anywhere("PROTOCOL"))
	switch {
	case f.err != nil:
		return nil, f.err
	case g.AccessToken == "" || g.RefreshToken == "":
		return nil, errNoPair
	}
	g.ClientEndpoint = endpoint
	return g, err
}

// frameEndpoint makes what an event calls client_endpoint out of what a frame
// says instead. PROTOCOL is 0 for a portal without TLS.
func frameEndpoint(domain, protocol string) (string, error) {
	scheme := "https"
	if protocol == "0" {
		scheme = "http"
	}
	u, err := url.Parse(scheme + "://" + domain)
	if err != nil || domain == "" || u.Host != domain || u.Hostname() == "" {
		return "", fmt.Errorf("b24oauth/install: the request's DOMAIN is no host: %.100q", domain)
	}
	return scheme + "://" + domain + "/rest/", nil
}
