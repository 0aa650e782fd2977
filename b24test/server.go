// Package b24test is a Bitrix24 portal for tests: the REST methods and the
// authorization server behind them, on loopback or in memory, with the
// answers, the errors and the oddities of the real ones.
//
// A test starts a [Server], installs an application for a user, and calls
// REST methods with the grant that it gets. Then it says what happens, such
// as [Server.ExpireAccessTokens], [Server.CutTokens] or [Server.Rename], and
// asks afterwards what arrived.
//
//	srv := b24test.NewServer()
//	defer srv.Close()
//	config := srv.Config()
//	err := config.Save(ctx, "portal", srv.Install())
//	client := srv.HTTPClient(config, "portal")
//	resp, err := client.Get(srv.Endpoint() + "crm.deal.list")
//
// A portal answers any method with what it understood, under "result":
//
//	{"result":{"method":"crm.deal.list","params":{…}},"time":{…}}
//
// where params are the parameters as PHP reads them, without the token. Two
// methods differ: profile tells whom the token acts for, and batch answers for
// each of its commands. The authorization server has app.info, which tells
// whose a token is.
//
// [NewMemoryServer] needs no socket and no real time, so it runs in a bubble
// of testing/synctest, where an hour until a token expires is over at once. What
// a program of yours makes itself with [b24oauth.Config.Client] reaches a
// [NewServer] only.
package b24test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/b24go/b24oauth"
)

// A Server is a Bitrix24 portal and the authorization server behind it. Make
// one with [NewServer] or [NewMemoryServer]. All its methods may be called
// concurrently, and while requests run.
//
// Those that concern "the next n" requests or answers replace what an earlier
// call of the same method asked for; n = 0 ends it.
type Server struct {
	clientID, clientSecret     string
	memberID, applicationToken string

	listen    func() (net.Listener, error)
	transport *http.Transport
	authHost  string

	closed  chan struct{}  // closed when Close is done
	serving sync.WaitGroup // goroutines that accept connections
	conns   sync.WaitGroup // connections, each with its goroutine

	mu       sync.Mutex // guards what follows; never held while anything waits
	sites    []*site
	host     string // the portal's present one
	grants   grants
	frames   map[string]frame // by path
	faults   faults
	calls    []*Request
	tokens   []*Request
	rotated  int
	refused  int
	shutdown bool
}

// site is one address and what serves it.
type site struct {
	listener net.Listener
	server   *http.Server
}

// NewServer starts a Server on two loopback sockets, one for the portal and
// one for the authorization server. Like [net/http/httptest.NewServer] it
// panics if it cannot listen. Close it when finished.
func NewServer() *Server {
	return newServer(listenLoopback, (&net.Dialer{}).DialContext)
}

// NewMemoryServer starts a Server that is reached over [net.Pipe], and only
// by the clients that it gives: [Server.HTTPClient], [Server.Client] and the
// TokenClient of [Server.Config]. Any other, such as [b24oauth.Config.Client], is
// an error without a connection, whose host says what to use. Started inside a
// bubble of testing/synctest it lives by the bubble's clock. Its hosts are
// names under localhost, which count as loopback. Close it when finished.
func NewMemoryServer() *Server {
	m := newMemory()
	return newServer(m.listen, m.dial)
}

func newServer(listen func() (net.Listener, error), dial func(context.Context, string, string) (net.Conn, error)) *Server {
	s := &Server{
		clientID:         "local.b24test." + randomHex(8),
		clientSecret:     randomHex(25),
		memberID:         randomHex(16),
		applicationToken: randomHex(16),
		listen:           listen,
		transport:        &http.Transport{DialContext: dial},
		closed:           make(chan struct{}),
		grants:           newGrants(),
	}
	s.host = s.open(s.servePortal)
	s.authHost = s.open(s.serveAuthorization)
	return s
}

// open starts serving at a new address, which it passes to handle, and returns
// its host and port.
func (s *Server) open(handle func(w http.ResponseWriter, r *http.Request, host string)) string {
	l, err := s.listen()
	if err != nil {
		panic(fmt.Sprintf("b24test: cannot listen: %v", err))
	}
	host := l.Addr().String()
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, host) }),
		ConnState: s.countConn,
		ErrorLog:  log.New(io.Discard, "", 0),
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutdown {
		l.Close()
		panic("b24test: the Server is closed")
	}
	s.sites = append(s.sites, &site{l, srv})
	s.serving.Go(func() { srv.Serve(l) })
	return host
}

func (s *Server) countConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// Close ends the server and every request that it is answering, closes the
// idle connections of its clients, and returns when nothing of it runs any
// longer. What arrived can still be asked for. Calling it again does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	first := !s.shutdown
	s.shutdown = true
	sites := slices.Clone(s.sites)
	s.mu.Unlock()
	if !first {
		<-s.closed
		return
	}
	defer close(s.closed)

	for _, site := range sites {
		site.listener.Close()
	}
	// A connection accepted at the last moment is known to its http.Server
	// only when Serve has returned. Closed earlier, the server would miss it.
	s.serving.Wait()
	for _, site := range sites {
		site.server.Close()
	}
	s.transport.CloseIdleConnections()
	s.conns.Wait()
}

// String names the server and tells none of its secrets.
func (s *Server) String() string {
	return "b24test.Server(" + s.URL() + ")"
}

// URL is the portal's base without a trailing slash: http://127.0.0.1:port, or
// in memory a name under localhost with port 65536, which cannot be dialled.
// [Server.Rename] changes it.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "http://" + s.host
}

// Endpoint is the base of the portal's REST methods, with a trailing slash:
// what a grant calls its client_endpoint. Methods of version 3 are under
// Endpoint() + "api/".
func (s *Server) Endpoint() string { return s.URL() + "/rest/" }

// TokenURL is where the authorization server, on a host of its own, exchanges
// refresh tokens and codes. The portal forwards the same under
// URL() + "/oauth/token/", as portals of old do.
func (s *Server) TokenURL() string { return "http://" + s.authHost + "/oauth/token/" }

// ClientID is the made-up id of the one application that the server knows.
func (s *Server) ClientID() string { return s.clientID }

// ClientSecret is the application's made-up secret.
func (s *Server) ClientSecret() string { return s.clientSecret }

// Client returns a plain client that reaches the server. It adds no token. Each
// call returns a client of its own, free to be changed, over one shared
// [http.Transport].
func (s *Server) Client() *http.Client { return &http.Client{Transport: s.transport} }

// HTTPClient returns what [b24oauth.Config.Client] does, with the Base that
// reaches the server, over sockets or in memory: a client whose requests carry
// the token of the grant that config has under key.
func (s *Server) HTTPClient(config *b24oauth.Config, key string) *http.Client {
	return &http.Client{Transport: &b24oauth.Transport{Source: config.TokenSource(key), Base: s.transport}}
}

// Config returns a configuration of the application, ready to use: with its
// credentials, the TokenURL and a TokenClient that reaches the server. The
// Store is left nil; set it, or anything else, before the first use. The client
// to call the portal with is that of [Server.HTTPClient].
func (s *Server) Config() *b24oauth.Config {
	return &b24oauth.Config{
		ClientID:     s.clientID,
		ClientSecret: s.clientSecret,
		TokenURL:     s.TokenURL(),
		TokenClient:  s.Client(),
	}
}

// Rename moves the portal to a new address, as its administrator may at any
// time, and returns the old URL. From then on the old address answers 302 to
// the new one with the request's path and query kept, as Bitrix24 does, and
// refreshes bring the new client_endpoint. It panics on a closed Server.
func (s *Server) Rename() (oldURL string) {
	host := s.open(s.servePortal)
	s.mu.Lock()
	defer s.mu.Unlock()
	oldURL, s.host = "http://"+s.host, host
	return oldURL
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
