package b24test

import (
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
	users     int64 // ids given out so far
	access    map[string]*issued
	refresh   map[string]*issued
	codes     map[string]*issued
}

// issued is an access token, a refresh token or a code.
type issued struct {
	user   int64
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
	user            int64
	access, refresh string
	now, expiry     time.Time
}

// issue makes a new pair of tokens for a user.
func (g *grants) issue(user int64) pair {
	now := time.Now()
	p := pair{user, randomHex(35), randomHex(35), now, now.Add(g.lifetime)}
	g.access[p.access] = &issued{user: user, expiry: p.expiry}
	g.refresh[p.refresh] = &issued{user: user, expiry: now.Add(refreshLifetime)}
	return p
}

func (g *grants) newUser() int64 {
	g.users++
	return g.users
}

// Install installs the application for a new user of the portal and returns
// what an installation brings: a pair of tokens and every field of a grant.
func (s *Server) Install() *b24oauth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.grants.issue(s.grants.newUser())
	return &b24oauth.Grant{
		ClientID:         s.clientID,
		MemberID:         s.memberID,
		ClientEndpoint:   "http://" + s.host + "/rest/",
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

// Code returns an authorization code for a new user, as the browser brings it
// back in the code flow. It is good for one exchange within 30 s.
func (s *Server) Code() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := randomHex(35)
	s.grants.codes[code] = &issued{user: s.grants.newUser(), expiry: time.Now().Add(codeLifetime)}
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
