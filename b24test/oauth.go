package b24test

import (
	"cmp"
	"net/http"
	"strings"
	"time"
)

const tokenPath = "/oauth/token/"

// serveAuthorization is the authorization server: tokens, and app.info, by
// which a program can ask whom a token belongs to.
func (s *Server) serveAuthorization(w http.ResponseWriter, r *http.Request, host string) {
	entry, body, err := s.arrive(r)
	if err != nil {
		s.refuseBody(w, entry, err)
		return
	}
	c, ok := parseCall(r, body)
	switch {
	case r.URL.Path == tokenPath:
		s.serveToken(w, r, host, entry, body)
	case ok && c.webhook == 0 && c.method == "app.info":
		s.understood(entry, c.params, c.auth, c.authIn)
		s.reply(w, entry, s.describe(c))
	default:
		s.reply(w, entry, htmlAnswer(http.StatusNotFound))
	}
}

// serveToken answers a token request, or does what the test wants instead.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, host string, entry *Request, body []byte) {
	query, form, _ := readParams(r, body)
	params := merge(query, form) // JSON is not understood here
	s.understood(entry, params, "", "")

	s.mu.Lock()
	hold := s.faults.hold
	s.mu.Unlock()
	if hold != nil {
		s.wait(r, entry, hold)
	}

	answer, delay, cut := s.exchange(host, params)
	if delay > 0 {
		later := make(chan struct{})
		timer := time.AfterFunc(delay, func() { close(later) })
		defer timer.Stop()
		s.wait(r, entry, later)
	}
	if cut {
		s.abort(entry)
	}
	s.reply(w, entry, answer)
}

// wait ends when ready does. If the client goes or the server closes before
// that, there is nobody to answer and the request ends.
func (s *Server) wait(r *http.Request, entry *Request, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-r.Context().Done():
		s.abort(entry)
	}
}

// exchange decides what a token request is answered, when, and whether the
// answer is lost.
func (s *Server) exchange(host string, params map[string]any) (a Answer, delay time.Duration, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.faults
	if take(&f.delayTokens) {
		delay = f.delay
	}
	if take(&f.failTokens) {
		return f.tokenAnswer, delay, false
	}
	cut = take(&f.cutTokens)

	text := func(name string) string {
		v, _ := params[name].(string)
		return v
	}
	switch {
	case text("client_id") != s.clientID:
		a = oauthError(http.StatusOK, "wrong_client")
	case text("client_secret") != s.clientSecret:
		a = oauthError(http.StatusBadRequest, "invalid_client")
	default:
		a = s.grantAnswer(host, text("grant_type"), text("refresh_token"), text("code"))
	}
	return a, delay, cut
}

// take uses up one of n, if any is left.
func take(n *int) bool {
	if *n <= 0 {
		return false
	}
	*n--
	return true
}

// grantAnswer exchanges a refresh token or a code of the right client. It is
// called with s.mu held.
func (s *Server) grantAnswer(host, grantType, refresh, code string) Answer {
	g := &s.grants
	switch {
	case grantType == "refresh_token" && refresh != "":
		token := g.refresh[refresh]
		if !g.renewable(token) {
			return oauthError(http.StatusBadRequest, "invalid_grant")
		}
		if token.expired() {
			return oauthError(http.StatusUnauthorized, "expired_token")
		}
		token.used = true
		s.rotated++
		p := g.descend(token.owner, token.line)
		answer := s.tokenAnswer(host, p)
		answer.Expires, answer.UserID = p.expiry.Unix(), p.user
		return jsonAnswer(http.StatusOK, answer)

	case grantType == "authorization_code" && code != "":
		token := g.codes[code]
		if token == nil || token.used || token.expired() {
			return oauthError(http.StatusBadRequest, "invalid_grant")
		}
		token.used = true
		return jsonAnswer(http.StatusOK, s.tokenAnswer(host, g.issue(token.owner)))

	case grantType == "" || grantType == "refresh_token" || grantType == "authorization_code":
		return oauthError(http.StatusBadRequest, "invalid_request")
	}
	return oauthError(http.StatusBadRequest, "unsupported_grant_type")
}

// tokenAnswer is a token response. A code exchange has neither Expires nor
// UserID.
type tokenAnswer struct {
	AccessToken    string `json:"access_token"`
	ClientEndpoint string `json:"client_endpoint"`
	Domain         string `json:"domain"`
	Expires        int64  `json:"expires,omitempty"`
	ExpiresIn      int64  `json:"expires_in"`
	MemberID       string `json:"member_id"`
	RefreshToken   string `json:"refresh_token"`
	Scope          string `json:"scope"`
	ServerEndpoint string `json:"server_endpoint"`
	Status         string `json:"status"`
	UserID         int64  `json:"user_id,omitempty"`
}

func (s *Server) tokenAnswer(host string, p pair) tokenAnswer {
	return tokenAnswer{
		AccessToken:    p.access,
		ClientEndpoint: s.endpointOf(p.owner),
		Domain:         host,
		ExpiresIn:      int64(p.expiry.Sub(p.now) / time.Second),
		MemberID:       cmp.Or(p.memberID, s.memberID),
		RefreshToken:   p.refresh,
		Scope:          scope,
		ServerEndpoint: "http://" + s.authHost + "/rest/",
		Status:         status,
	}
}

// oauthError is an error of the authorization server, which often leaves out
// the description.
func oauthError(status int, code string) Answer {
	return jsonAnswer(status, map[string]string{"error": code})
}

// describe answers app.info: which application and user a token belongs to,
// and on which portal.
func (s *Server) describe(c call) Answer {
	s.mu.Lock()
	removed := s.grants.removed
	s.mu.Unlock()
	if removed && c.auth != "" {
		return c.dialect.denied("NOT_INSTALLED", "Application not installed")
	}
	who, refusal, ok := s.authorize(c, true)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	endpoint := s.endpointOf(who)
	uri := strings.TrimSuffix(endpoint, "/rest/")
	return c.dialect.success(c.started, map[string]any{
		"client_id": cmp.Or(who.clientID, s.clientID),
		"scope":     scope,
		"expires":   s.grants.access[c.auth].expiry.UTC().Format("2006-01-02T15:04:05-07:00"),
		"user_id":   who.user,
		"install": map[string]any{
			"installed":       !s.grants.unfinished,
			"version":         1,
			"status":          status,
			"scope":           scope,
			"domain":          uri[strings.LastIndex(uri, "/")+1:],
			"uri":             uri,
			"client_endpoint": endpoint,
			"member_id":       cmp.Or(who.memberID, s.memberID),
			"member_type":     "b24",
		},
	})
}
