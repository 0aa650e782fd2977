// Package install reads the first tokens of an application on a portal: those
// that Bitrix24 posts to it when it is installed, or when a user opens it.
//
//	grant, err := install.ReadGrant(r)
//
// Nobody vouches for these requests: anybody can send one that names any
// portal, with tokens of his own. Never let one replace a stored grant before
// app.info of the authorization server has confirmed it:
//
//	https://oauth.bitrix.info/rest/app.info?auth={the grant's access token}
//
// What a forged request cannot do is have the client secret sent elsewhere,
// since [b24oauth.Config.Save] accepts none but the known authorization servers,
// nor name a private address, such as this machine's, as the portal: that is an
// error unless [Reader.AllowPrivate] is set. Names are not resolved: one may lead
// to a private address.
package install

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/redact"
)

// maxBody is how much of a request is read. Bitrix24 sends about 1 KiB.
const maxBody = 64 << 10

// A Reader reads grants. The zero value is for portals in Bitrix24's cloud and
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
// the application, or its install page, in a frame, or the event
// ONAPPINSTALL. It reads the request's form, at most 64 KiB of it, and changes
// nothing else. The lifetime of the access token counts from now. The request
// proves nothing: see above before the grant is saved.
//
// Any other request is an error, as is one without both tokens, or of a portal
// at a private address. Errors tell what is missing and no secret. Where else
// the tokens and the client secret may go is not judged here but by
// [b24oauth.Config.Save].
func (rd Reader) ReadGrant(r *http.Request) (*b24oauth.Grant, error) {
	now := time.Now().Round(0)
	if r.Body != nil {
		r.Body = http.MaxBytesReader(nil, r.Body, maxBody)
	}
	if err := r.ParseForm(); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, fmt.Errorf("b24oauth/install: the request is larger than %d KiB", maxBody>>10)
		}
		return nil, errors.New("b24oauth/install: the request is no form, or a damaged one") // the error itself may quote it
	}
	read := frameGrant
	if r.PostForm.Has("event") {
		read = eventGrant
	}
	g, err := read(r, now)
	if err != nil {
		return nil, err
	}
	// What is no URL to this package is none to Save either, which says so.
	if u, err := url.Parse(g.ClientEndpoint); err == nil && !rd.AllowPrivate && u.Hostname() != "" && address.IsPrivate(u) {
		return nil, fmt.Errorf("b24oauth/install: the request names a portal at a private address (host %s): set AllowPrivate of install.Reader if this application is for self-hosted portals in a private network, or for a test", redact.Host(u.Host))
	}
	return g, nil
}

var errNoPair = errors.New("b24oauth/install: the request brings no pair of tokens: it must be the POST by which Bitrix24 opens or installs the application, or its event ONAPPINSTALL")

// frameGrant reads the POST that opens a page in a frame.
func frameGrant(r *http.Request, now time.Time) (*b24oauth.Grant, error) {
	form := r.PostForm
	if form.Get("AUTH_ID") == "" || form.Get("REFRESH_ID") == "" {
		return nil, errNoPair
	}
	endpoint, err := frameEndpoint(r.Form.Get("DOMAIN"), r.Form.Get("PROTOCOL"))
	if err != nil {
		return nil, err
	}
	return &b24oauth.Grant{
		MemberID:         form.Get("member_id"),
		ClientEndpoint:   endpoint,
		ServerEndpoint:   form.Get("SERVER_ENDPOINT"),
		AccessToken:      form.Get("AUTH_ID"),
		RefreshToken:     form.Get("REFRESH_ID"),
		ApplicationToken: form.Get("APPLICATION_TOKEN"),
		Issued:           now,
		Expiry:           now.Add(lifetime.Of(form.Get("AUTH_EXPIRES"), "", now)),
		Scope:            form.Get("APPLICATION_SCOPE"),
		Status:           form.Get("status"),
	}, nil
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

// eventGrant reads the event ONAPPINSTALL.
func eventGrant(r *http.Request, now time.Time) (*b24oauth.Grant, error) {
	if event := r.PostForm.Get("event"); !strings.EqualFold(event, "ONAPPINSTALL") {
		return nil, fmt.Errorf("b24oauth/install: the event %.100q is no installation: only ONAPPINSTALL brings a grant", event)
	}
	auth := func(name string) string { return r.PostForm.Get("auth[" + name + "]") }
	if auth("access_token") == "" || auth("refresh_token") == "" {
		return nil, errNoPair
	}
	g := &b24oauth.Grant{
		MemberID:         auth("member_id"),
		ClientEndpoint:   auth("client_endpoint"),
		ServerEndpoint:   auth("server_endpoint"),
		AccessToken:      auth("access_token"),
		RefreshToken:     auth("refresh_token"),
		ApplicationToken: auth("application_token"),
		Issued:           now,
		Expiry:           now.Add(lifetime.Of(auth("expires_in"), auth("expires"), now)),
		Scope:            auth("scope"),
		Status:           auth("status"),
	}
	if id, err := strconv.ParseInt(auth("user_id"), 10, 64); err == nil {
		g.UserID = id
	}
	return g, nil
}
