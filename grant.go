package b24oauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

// A Grant is what one user's consent on one portal gave to one application:
// the pair of tokens and where they are valid. Tokens belong to an
// application, a portal and a user together, so a program that acts for
// several users of a portal keeps several grants of it.
//
// A Grant holds secrets and does not tell them: printing, formatting and
// logging one, by value or by pointer, shows tokens as fingerprints, and
// marshalling one as JSON or text is an error. It cannot where fmt asks no
// method, in an unexported field of another struct: keep a *Grant there, and
// print that struct with %v, since %s and %q show what its pointers lead to.
// The stored form is what [Grant.MarshalBinary] returns; that does contain
// the tokens.
type Grant struct {
	// ClientID is the application that the tokens were issued to. A grant of
	// another application than [Config.ClientID] is refused before any
	// request. Empty: not known, accepted as it is.
	ClientID string `json:"client_id,omitempty"`

	// MemberID is the portal's identity. It never changes, not even when the
	// portal is renamed.
	MemberID string `json:"member_id,omitempty"`

	// ClientEndpoint is the base of the portal's REST methods, such as
	// https://example.bitrix24.com/rest/: https, except on loopback, a host,
	// perhaps a port, and a path, which is this one unless the portal has moved
	// its methods. Tokens go to that host only.
	ClientEndpoint string `json:"client_endpoint,omitempty"`

	// ServerEndpoint names the authorization server that issued the tokens,
	// such as https://oauth.bitrix.info/rest/. See [Config.TokenURL].
	ServerEndpoint string `json:"server_endpoint,omitempty"`

	// AccessToken is sent with each REST call. RefreshToken buys the next
	// pair, once. Without a RefreshToken the AccessToken is used until a
	// portal refuses it.
	AccessToken  string `json:"access_token,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`

	// ApplicationToken proves that an event, such as ONAPPUNINSTALL, comes
	// from the portal. A refresh does not bring it and does not erase it.
	ApplicationToken string `json:"application_token,omitempty"`

	// Issued is when the tokens were asked for and Expiry when the access
	// token ends, both by this machine's clock. They never decide which of
	// two grants is newer. Zero Expiry: not known, so the token is renewed
	// before its first use. [TokenSource.Grant] returns both in UTC.
	Issued time.Time `json:"issued,omitzero"`
	Expiry time.Time `json:"expiry,omitzero"`

	// Scope is the comma-separated list of permissions. Status is the
	// portal's word on the application: F free, D demo, T trial, P paid,
	// L local, S by subscription.
	Scope  string `json:"scope,omitempty"`
	Status string `json:"status,omitempty"`

	// UserID is the portal user who the tokens act for; 0 if not known.
	UserID int64 `json:"user_id,omitempty"`

	// FormerHosts are the addresses that the portal had before it was
	// renamed, oldest first: hosts in lower case, names in IDNA's ASCII form,
	// with a port if it is not 443. Requests to them go to the present address.
	FormerHosts []string `json:"former_hosts,omitempty"`

	// Lineage says from which authorization the grant descends and which ones
	// it replaced; by it alone is decided which of two grants is the newer
	// one. [Config] keeps it: leave it zero in a grant that an installation or
	// a code brought. Stores carry it unseen.
	Lineage Lineage `json:"lineage,omitzero"`

	// Refused is the authorization server's verdict that the refresh token is
	// dead. It is stored so that no other process asks again. Zero: none.
	Refused Refusal `json:"refused,omitzero"`

	// Deleted is when the grant was deleted. Such a grant is a tombstone: it
	// has no tokens, and a lineage by which an installation that is delivered
	// again is known to be older. Only a Store sees it: for [Config] and
	// [TokenSource] there is no grant then. Zero: not deleted.
	Deleted time.Time `json:"deleted,omitzero"`
}

// Lineage orders grants. A clock cannot, since clocks differ between machines,
// nor can a counter of writes, since a Store may be set back to a backup: a
// grant is older than another one if both have one root and it has the lower
// generation, or if its root is in the other's Former. Nothing else counts.
type Lineage struct {
	// Root identifies the authorization, a consent given once on a portal: the
	// fingerprint of its first refresh token, or of its access token if there
	// was none, and a random number for a deleted grant. A fingerprint is the
	// first 64 bits of the SHA-256. 0: this very grant is the first.
	Root uint64 `json:"root,omitempty"`

	// Generation counts the refreshes since the root.
	Generation uint64 `json:"generation,omitempty"`

	// Former are the roots of the authorizations that this one replaced,
	// oldest first, at most 32.
	Former []uint64 `json:"former,omitempty"`
}

// IsZero reports whether nothing is known of where the grant descends from.
func (l Lineage) IsZero() bool { return l.Root == 0 && l.Generation == 0 && len(l.Former) == 0 }

// Refusal is a verdict of the authorization server on a refresh token. Without a
// Code there is none: a Save of the very pair has lifted it then.
type Refusal struct {
	Code string    `json:"code"` // invalid_grant, expired_token or NOT_INSTALLED
	At   time.Time `json:"at"`   // when the server's answer came, by the clock of the machine that asked
}

// Token returns the access token in the form of the oauth2 package. It
// carries no refresh token: whoever exchanged that one elsewhere would take
// it away from the Store. The grant's other fields are there as
// [oauth2.Token.Extra], under the names that Bitrix24 gives them: member_id,
// client_endpoint, server_endpoint, scope, status, user_id.
func (g *Grant) Token() *oauth2.Token {
	t := &oauth2.Token{AccessToken: g.AccessToken, Expiry: g.Expiry}
	return t.WithExtra(g.extra())
}

func (g *Grant) extra() map[string]any {
	return map[string]any{
		"member_id":       g.MemberID,
		"client_endpoint": g.ClientEndpoint,
		"server_endpoint": g.ServerEndpoint,
		"scope":           g.Scope,
		"status":          g.Status,
		"user_id":         g.UserID,
	}
}

// storedGrant is the stored form of a Grant. Its field names are Bitrix24's
// own where there are any, so that a stored grant can be read by a person.
type storedGrant struct {
	Version int `json:"v"`
	fields
}

// fields is a Grant without the methods that refuse to tell it.
type fields Grant

// storedVersion is the only stored form there has been.
const storedVersion = 1

// MarshalBinary returns the form in which a [Store] keeps the grant: a JSON
// object that contains the tokens in plain text.
func (g Grant) MarshalBinary() ([]byte, error) {
	return json.Marshal(storedGrant{storedVersion, fields(g)})
}

// UnmarshalBinary reads what [Grant.MarshalBinary] wrote. Anything else, such
// as a truncated or empty value, is an error that quotes nothing of it, wraps
// ErrMisconfigured and leaves g as it was.
func (g *Grant) UnmarshalBinary(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return damaged("b24oauth: stored grant is empty")
	}
	var s storedGrant
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&s); err != nil {
		// The decoder's own words can quote the value.
		return damaged("b24oauth: stored grant is damaged: not the JSON object that MarshalBinary writes")
	}
	if _, err := dec.Token(); err != io.EOF {
		return damaged("b24oauth: stored grant is damaged: something follows its JSON object")
	}
	if s.Version > storedVersion {
		return damaged(fmt.Sprintf("b24oauth: stored grant has version %d, written by a later release; this one reads up to %d", s.Version, storedVersion))
	}
	if s.Version < 1 || s.AccessToken == "" && s.RefreshToken == "" && s.Deleted.IsZero() {
		return damaged("b24oauth: stored value is not a grant: it has no version or no token")
	}
	*g = Grant(s.fields)
	return nil
}

// MarshalText is always an error. It keeps a grant that is a part of
// something else from being written by encoding/json, encoding/xml and the
// like, which would either tell the tokens or store a grant without them.
func (g Grant) MarshalText() ([]byte, error) {
	return nil, errors.New("b24oauth: a Grant is not marshalled as text: store it with Grant.MarshalBinary, which contains its tokens")
}

// Format implements [fmt.Formatter] for every verb, without the secrets.
func (g Grant) Format(f fmt.State, _ rune) {
	io.WriteString(f, g.String())
}

// String describes the grant without its secrets.
func (g Grant) String() string {
	return fmt.Sprintf("Grant{client_id=%q member_id=%q client_endpoint=%q access_token=%s refresh_token=%s expiry=%s}",
		g.ClientID, g.MemberID, g.ClientEndpoint, tokenLabel(g.AccessToken), tokenLabel(g.RefreshToken), g.Expiry.Format(time.RFC3339))
}

// LogValue implements [slog.LogValuer], without the secrets.
func (g Grant) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("client_id", g.ClientID),
		slog.String("member_id", g.MemberID),
		slog.String("client_endpoint", g.ClientEndpoint),
		slog.String("access_token", tokenLabel(g.AccessToken)),
		slog.String("refresh_token", tokenLabel(g.RefreshToken)),
		slog.Time("expiry", g.Expiry),
	)
}

func (g *Grant) clone() *Grant {
	if g == nil {
		return nil
	}
	c := *g
	c.FormerHosts = slices.Clone(g.FormerHosts)
	c.Lineage.Former = slices.Clone(g.Lineage.Former)
	return &c
}

// merge returns the grant with what fresh brings, for the application with
// clientID. An answer never erases what it does not carry, and what it carries
// wrongly is left aside: the tokens in it are the only copy there is. server
// is fresh's ServerEndpoint if that is to be trusted, else "".
func (g *Grant) merge(fresh *Grant, clientID, server string) *Grant {
	g = g.clone()
	knew := g.MemberID
	g.ClientID = clientID
	g.AccessToken, g.Issued, g.Expiry = fresh.AccessToken, fresh.Issued, fresh.Expiry
	set := func(field *string, value string) {
		if value != "" {
			*field = value
		}
	}
	set(&g.RefreshToken, fresh.RefreshToken)
	set(&g.ApplicationToken, fresh.ApplicationToken)
	set(&g.MemberID, fresh.MemberID)
	set(&g.Status, fresh.Status)
	if g.Scope == "" || fresh.Scope != "app" {
		set(&g.Scope, fresh.Scope)
	}
	if fresh.UserID != 0 {
		g.UserID = fresh.UserID
	}
	set(&g.ServerEndpoint, server)
	g.moveTo(fresh.ClientEndpoint, g.MemberID != "" && knew == fresh.MemberID)
	return g
}

// keep keeps what the stored grant of the same portal, whose place g takes, knew of
// the portal and g does not say. What belongs to the tokens is kept only if they
// are the same: a second user's grant would be told to be the first one's.
func (g *Grant) keep(stored *Grant) {
	g.MemberID = cmp.Or(g.MemberID, stored.MemberID)
	g.ApplicationToken = cmp.Or(g.ApplicationToken, stored.ApplicationToken)
	g.ClientEndpoint = cmp.Or(g.ClientEndpoint, stored.ClientEndpoint)
	g.keepPath(stored)
	if address.SameEndpoint(stored.ClientEndpoint, g.ClientEndpoint) {
		// Otherwise g may come from a request that anybody can send. That the
		// portal was renamed only the authorization server can say.
		hosts := slices.Clone(stored.FormerHosts)
		for _, host := range g.FormerHosts {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
		g.FormerHosts = hosts
	}
	if g.Fence() == stored.Fence() {
		g.UserID = cmp.Or(g.UserID, stored.UserID)
		g.Scope = cmp.Or(g.Scope, stored.Scope)
		g.Status = cmp.Or(g.Status, stored.Status)
	}
}

// keepPath keeps the path of the stored grant's endpoint, if g names the same
// host and the usual path: an installation's is a guess of who reads it, and a
// portal that has moved its methods would lose them each time.
func (g *Grant) keepPath(stored *Grant) {
	was, err := address.ParseEndpoint(stored.ClientEndpoint)
	is, bad := address.ParseEndpoint(g.ClientEndpoint)
	if err == nil && bad == nil && was.Host == is.Host && is.Path == address.RestPath {
		g.ClientEndpoint = was.String()
	}
}

// dropQuoted drops an address that quotes a secret, in any letter case: it is
// nobody's, and a grant shows its addresses when it is printed. A secret of a
// few letters, as in tests, stands in many an address.
func (g *Grant) dropQuoted(secrets []string) {
	for _, field := range []*string{&g.ClientEndpoint, &g.ServerEndpoint, &g.MemberID} {
		for _, secret := range secrets {
			if len(secret) >= 8 && redact.Quotes(strings.ToLower(*field), strings.ToLower(secret)) {
				*field = ""
			}
		}
	}
}

// moveTo makes endpoint the grant's portal and, if the two differ and it is known
// to be the same one under another name, its present address a former one:
// requests to that would go on at endpoint otherwise, which may be a stranger's.
func (g *Grant) moveTo(endpoint string, renamed bool) {
	to, err := address.ParseEndpoint(endpoint)
	if err != nil {
		return
	}
	from, err := address.ParseEndpoint(g.ClientEndpoint)
	switch {
	case err != nil || from.Host == to.Host:
	case renamed:
		g.FormerHosts = append(slices.DeleteFunc(g.FormerHosts, func(h string) bool {
			return h == from.Host || h == to.Host
		}), from.Host)
	default:
		g.FormerHosts = nil
	}
	g.ClientEndpoint = to.String()
}

// OlderThan reports whether h descends from g or has replaced it, by lineage
// alone. Neither of two unrelated grants is older. A grant that was stored
// before grants had a lineage is the first of its authorization.
func (g *Grant) OlderThan(h *Grant) bool {
	return g.view().FullLineage().OlderThan(h.view().FullLineage())
}

// view is what package renew knows of a grant.
func (g *Grant) view() *renew.View {
	return &renew.View{
		Access:  g.AccessToken,
		Refresh: g.RefreshToken,
		Issued:  g.Issued,
		Expiry:  g.Expiry,
		Marks:   renew.Marks{Lineage: renew.Lineage(g.Lineage), Refused: renew.Refusal(g.Refused), Deleted: g.Deleted},
	}
}

// Fence returns the value by which a [Store] recognises that what it holds is
// still what an Update was given: the fingerprint of the refresh token, of the
// access token if there is none, or of a deleted grant's root, as at most 24
// characters of a to z, 0 to 9 and dash; "" for nil. A verdict, another
// address or another access token do not change it, so that a late save of a
// new pair is not refused because of them.
func (g *Grant) Fence() string {
	switch {
	case g == nil:
		return ""
	case !g.Deleted.IsZero():
		return fmt.Sprintf("deleted-%016x", g.Lineage.Root)
	}
	return fmt.Sprintf("%016x", g.view().Fence())
}

// tokenLabel is how a token is shown: eight digits by which two log lines can
// be compared.
func tokenLabel(token string) string {
	if token == "" {
		return "none"
	}
	return fmt.Sprintf("%08x", renew.Fingerprint(token)>>32)
}
