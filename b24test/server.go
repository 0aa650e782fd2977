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
//
// [Listen] is for a program, not a test: a portal at an address of its own, to
// develop against. It is what the command b24oauth sandbox starts.
package b24test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
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
// one with [NewServer], [NewMemoryServer] or [Listen]. All its methods may be called
// concurrently, and while requests run.
//
// Those that concern "the next n" requests or answers replace what an earlier
// call of the same method asked for; n = 0 ends it.
type Server struct {
	identity

	listen    func(address string) (net.Listener, error)
	free      string // an address with a free port, on the portal's host
	transport *http.Transport
	authHost  string
	lasting   bool // it is a program's, not a test's

	pages http.ServeMux // what Handle serves

	closed  chan struct{}  // closed when Close is done
	serving sync.WaitGroup // goroutines that accept connections
	conns   sync.WaitGroup // connections, each with its goroutine

	mu       sync.Mutex // guards what follows; never held while anything waits
	sites    []*site
	host     string // the portal's present one
	grants   grants
	frames   map[string]frame // by path
	redirect string           // the address in the application's card; "" if none is known
	watchers []func(Request)
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
	s := newServer(listenTCP, (&net.Dialer{}).DialContext)
	s.mustStart()
	return s
}

// NewMemoryServer starts a Server that is reached over [net.Pipe], and only
// by the clients that it gives: [Server.HTTPClient], [Server.Client] and the
// TokenClient of [Server.Config]. Any other, such as [b24oauth.Config.Client], is
// an error without a connection, whose host says what to use. Started inside a
// bubble of testing/synctest it lives by the bubble's clock. Its hosts are
// names under localhost, which count as loopback. Close it when finished.
func NewMemoryServer() *Server {
	m := newMemory()
	s := newServer(m.listen, m.dial)
	s.mustStart()
	return s
}

func newServer(listen func(address string) (net.Listener, error), dial func(context.Context, string, string) (net.Conn, error)) *Server {
	return &Server{
		identity:  newIdentity(randomHex),
		listen:    listen,
		transport: &http.Transport{DialContext: dial},
		closed:    make(chan struct{}),
		grants:    newGrants(),
	}
}

// mustStart starts a server of a test.
func (s *Server) mustStart() {
	if err := s.start(anyLoopback, anyLoopback); err != nil {
		panic(err.Error())
	}
}

// start listens at both addresses. If it fails nothing is left open.
func (s *Server) start(portal, authorization string) (err error) {
	l, err := s.bind(portal)
	if err != nil {
		return err
	}
	if s.lasting {
		s.identity = identityAt(l.Addr().String())
	}
	if s.host, err = s.serve(l, s.servePortal); err != nil {
		return err
	}
	name, _, err := net.SplitHostPort(s.host)
	if err != nil {
		return fmt.Errorf("b24test: %w", err)
	}
	s.free = net.JoinHostPort(name, "0")
	if s.authHost, err = s.open(authorization, s.serveAuthorization); err != nil {
		s.Close()
	}
	return err
}

// open binds an address and serves there.
func (s *Server) open(address string, handle handler) (host string, err error) {
	l, err := s.bind(address)
	if err != nil {
		return "", err
	}
	return s.serve(l, handle)
}

func (s *Server) bind(address string) (net.Listener, error) {
	l, err := s.listen(address)
	if err != nil {
		return nil, fmt.Errorf("b24test: cannot listen at %s: %w: end what listens there, or choose another address; port 0 is any free one", address, err)
	}
	return l, nil
}

// handler answers a request at one of the Server's addresses.
type handler func(w http.ResponseWriter, r *http.Request, host string)

// serve starts serving, and passes the host and port to handle and returns them.
func (s *Server) serve(l net.Listener, handle handler) (string, error) {
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
		return "", errors.New("b24test: the Server is closed")
	}
	s.sites = append(s.sites, &site{l, srv})
	s.serving.Go(func() { srv.Serve(l) })
	return host, nil
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
	host, err := s.open(s.free, s.servePortal)
	if err != nil {
		panic(err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	oldURL, s.host = "http://"+s.host, host
	return oldURL
}

func randomHex(n int) string { return hexOf(rand.Reader, n) }

// hexOf reads n bytes of a source that never fails.
func hexOf(random io.Reader, n int) string {
	b := make([]byte, n)
	io.ReadFull(random, b)
	return hex.EncodeToString(b)
}
