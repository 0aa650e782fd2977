package b24test

import (
	"cmp"
	"fmt"
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
	newest     []pair // of every line of descent
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
	line   int // of a refresh token: which of grants.newest descends from it
}

func (i *issued) expired() bool { return !time.Now().Before(i.expiry) }

// expire ends a token now, if it has not ended yet.
func (i *issued) expire() {
	if !i.expired() {
		i.expiry = time.Now()
	}
}

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

// issue makes a new pair of tokens, with which a line of descent begins.
func (g *grants) issue(to owner) pair {
	g.newest = append(g.newest, pair{})
	return g.descend(to, len(g.newest)-1)
}

// descend makes the next pair of a line.
func (g *grants) descend(to owner, line int) pair {
	now := time.Now()
	p := pair{to, randomHex(35), randomHex(35), now, now.Add(g.lifetime)}
	g.access[p.access] = &issued{owner: to, expiry: p.expiry}
	g.refresh[p.refresh] = &issued{owner: to, expiry: now.Add(refreshLifetime), line: line}
	g.newest[line] = p
	return p
}

// renewable is whether a refresh token can be exchanged.
func (g *grants) renewable(token *issued) bool {
	return token != nil && !token.killed && token.clientID == "" && (!token.used || g.stateless)
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

// Reissue returns a new pair for the user of g, who must be one whom the Server
// knows: each event, each robot and each opening of a page brings a pair of its own.
func (s *Server) Reissue(g *b24oauth.Grant) *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.grants.newest {
		if p.user == g.UserID {
			return s.grantOf(p.owner)
		}
	}
	panic(fmt.Sprintf("b24test: user %d has no grant here", g.UserID))
}

// Grants returns what the server has issued, in that order: for each installation,
// opened page, event and code the pair that its refreshes have come to, as the server
// sees it now. Expiry is past once the portal refuses the access token as expired, and
// RefreshToken is empty once the authorization server would refuse it. There are none
// while the application is uninstalled.
func (s *Server) Grants() []*b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*b24oauth.Grant
	for _, p := range s.grants.newest {
		if s.grants.removed {
			break
		}
		g := s.grantFrom(p)
		g.Expiry = s.grants.access[p.access].expiry
		if token := s.grants.refresh[p.refresh]; !s.grants.renewable(token) || token.expired() {
			g.RefreshToken = ""
		}
		list = append(list, g)
	}
	return list
}

// grantOf issues a grant. It is called with s.mu held.
func (s *Server) grantOf(o owner) *b24oauth.Grant { return s.grantFrom(s.grants.issue(o)) }

// grantFrom is the grant with a pair. It is called with s.mu held.
func (s *Server) grantFrom(p pair) *b24oauth.Grant {
	return &b24oauth.Grant{
		ClientID:         cmp.Or(p.clientID, s.clientID),
		MemberID:         cmp.Or(p.memberID, s.memberID),
		ClientEndpoint:   s.endpointOf(p.owner),
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
		token.expire()
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
		token.expire()
	}
}
