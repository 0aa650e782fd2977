package b24test

import (
	"cmp"
	"time"

	"github.com/b24go/b24oauth"
)

const (
	defaultLifetime = time.Hour
	refreshLifetime = 30 * 24 * time.Hour
	codeLifetime    = 30 * time.Second

	scope  = "crm,entity,im,task"
	status = "L"
)

// grants are the tokens and codes issued so far.
type grants struct {
	lifetime  time.Duration // of access tokens issued from now on
	stateless bool
	removed   bool // the application was, and with it all tokens
	// unfinished says that the installation is, until BX24.installFinish.
	unfinished bool
	users      int64 // ids given out so far
	access     map[string]*issued
	refresh    map[string]*issued
	codes      map[string]*issued
}

// owner is whose a token is.
type owner struct {
	user                         int64
	employee                     bool   // no administrator
	clientID, memberID, endpoint string // of another application or portal; empty: the Server's
}

// issued is an access token, a refresh token or a code.
type issued struct {
	owner
	expiry time.Time
	used   bool // exchanged at least once
	killed bool
}

func (i *issued) expired() bool { return !time.Now().Before(i.expiry) }

func newGrants() grants {
	return grants{
		lifetime: defaultLifetime,
		access:   make(map[string]*issued),
		refresh:  make(map[string]*issued),
		codes:    make(map[string]*issued),
	}
}

// pair is what an exchange brings.
type pair struct {
	owner
	access, refresh string
	now, expiry     time.Time
}

// issue makes a new pair of tokens.
func (g *grants) issue(to owner) pair {
	now := time.Now()
	p := pair{to, randomHex(35), randomHex(35), now, now.Add(g.lifetime)}
	g.access[p.access] = &issued{owner: to, expiry: p.expiry}
	g.refresh[p.refresh] = &issued{owner: to, expiry: now.Add(refreshLifetime)}
	return p
}

func (g *grants) newUser() int64 {
	g.users++
	return g.users
}

// Install installs the application for a new user of the portal, an administrator,
// and returns what an installation brings: a pair of tokens and every field of a
// grant.
func (s *Server) Install() *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.removed = false
	return s.grantOf(owner{user: s.grants.newUser()})
}

// Employee returns the grant of a new user who is no administrator, as it comes
// when he opens the application.
func (s *Server) Employee() *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grantOf(owner{user: s.grants.newUser(), employee: true})
}

// AnotherApplications returns the grant of another application on the same portal,
// for an administrator: the authorization server knows its tokens too.
func (s *Server) AnotherApplications() *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grantOf(owner{user: s.grants.newUser(), clientID: "local.another"})
}

// AnotherPortals returns the grant of the application on another portal, at
// https://another.example/rest/, for an administrator there. Nothing serves that
// portal, but the authorization server knows its tokens and renews them.
func (s *Server) AnotherPortals() *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grantOf(owner{user: s.grants.newUser(), memberID: "another-portals-member-id", endpoint: "https://another.example/rest/"})
}

// SetInstalled says whether the installation is finished, as a page does by
// BX24.installFinish: app.info tells. It is at first.
func (s *Server) SetInstalled(finished bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.unfinished = !finished
}

// Uninstall removes the application from the portal, until the next
// [Server.Install]: app.info answers 401 NOT_INSTALLED, a portal 401 invalid_token,
// and no token is renewed any more.
func (s *Server) Uninstall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.removed = true
	for _, token := range s.grants.refresh {
		token.killed = true
	}
}

// grantOf issues a grant. It is called with s.mu held.
func (s *Server) grantOf(o owner) *b24oauth.Grant {
	p := s.grants.issue(o)
	return &b24oauth.Grant{
		ClientID:         cmp.Or(o.clientID, s.clientID),
		MemberID:         cmp.Or(o.memberID, s.memberID),
		ClientEndpoint:   s.endpointOf(o),
		ServerEndpoint:   "http://" + s.authHost + "/rest/",
		AccessToken:      p.access,
		RefreshToken:     p.refresh,
		ApplicationToken: s.applicationToken,
		Issued:           p.now,
		Expiry:           p.expiry,
		Scope:            scope,
		Status:           status,
		UserID:           p.user,
	}
}

// endpointOf is where the portal of a token is. It is called with s.mu held.
func (s *Server) endpointOf(o owner) string {
	return cmp.Or(o.endpoint, "http://"+s.host+"/rest/")
}

// Code returns an authorization code for a new user, as the browser brings it
// back in the code flow. It is good for one exchange within 30 s.
func (s *Server) Code() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := randomHex(35)
	s.grants.codes[code] = &issued{owner: owner{user: s.grants.newUser()}, expiry: time.Now().Add(codeLifetime)}
	return code
}

// ExpireAccessTokens ends every access token issued so far: the portal
// refuses it with expired_token, whatever its expiry was said to be. Refresh
// tokens keep working. A test that does so twice waits in between, in a bubble of
// testing/synctest, or calls TokenSource.Renew(ctx, nil): for ten seconds after a
// renewal for a refusal, b24oauth answers none with another one.
func (s *Server) ExpireAccessTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range s.grants.access {
		token.expiry = time.Time{}
	}
}

// SetLifetime sets how long access tokens live that are issued from now on,
// rounded up to whole seconds, which is all that an answer can announce. It is
// an hour at first. With 0 or less they have expired when they arrive.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.lifetime = max(0, d+time.Second-1).Truncate(time.Second)
}

// SetSingleUse says whether a refresh token works only once, as it does at
// first. Otherwise one that was exchanged stays valid until its own expiry, 30
// days after it was issued. Bitrix24's own sources disagree on which it is.
func (s *Server) SetSingleUse(single bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.stateless = !single
}

// KillGrants makes every refresh token issued so far unknown: 400
// invalid_grant. Access tokens work until they expire.
func (s *Server) KillGrants() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range s.grants.refresh {
		token.killed = true
	}
}

// ExpireRefreshTokens ends every refresh token issued so far: 401
// expired_token. Access tokens work until they expire.
func (s *Server) ExpireRefreshTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range s.grants.refresh {
		token.expiry = time.Time{}
	}
}
