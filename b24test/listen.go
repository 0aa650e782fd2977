package b24test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// anyLoopback is where the servers of tests listen.
const anyLoopback = "127.0.0.1:0"

func listenTCP(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// Listen starts a Server for a program that runs for long, such as a portal to
// develop against, with the portal and the authorization server at TCP addresses of
// the caller's choice; port 0 is any free one. Neither may be an address that stands
// for all, such as 0.0.0.0:8024, since grants name them to clients. An address that
// cannot be listened at is an error. Close the Server when finished.
//
// What a developer enters in a configuration follows from the portal's address and
// is the same when that is listened at again: the client id and secret, the portal's
// member_id and the application_token. So these are no secrets; tokens and codes are
// random. Only the last 100 requests of each kind are kept.
func Listen(portal, authorization string) (*Server, error) {
	host, _, err := net.SplitHostPort(portal)
	if err != nil {
		return nil, fmt.Errorf("b24test: the portal's address %q is not of the form host:port, such as 127.0.0.1:8024", portal)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("b24test: the portal's address %q stands for all of this machine's: choose the one that clients reach it by, such as 127.0.0.1:8024", portal)
	}
	s := newServer(listenTCP, (&net.Dialer{}).DialContext)
	s.lasting = true
	if err := s.start(portal, authorization); err != nil {
		return nil, err
	}
	return s, nil
}

// memory is a network of pipes: names, and who listens there.
type memory struct {
	mu        sync.Mutex // guards listeners, never held while dialing
	listeners map[string]*memoryListener
}

func newMemory() *memory {
	return &memory{listeners: make(map[string]*memoryListener)}
}

// A client with another transport than the Server's must not reach whatever
// listens on this machine, and its user should learn what to do. So a memory
// address has a port out of range, which cannot be dialled, and net/http's error
// quotes the host that says which client to take.
const (
	noPort      = "65536"
	portalNames = "use-server-httpclient.localhost:" + noPort
	oauthName   = "oauth.use-server-client.localhost:" + noPort
)

// listen ignores the address: a memory has names of its own.
func (m *memory) listen(string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.listeners)
	name := fmt.Sprintf("portal-%d.%s", n, portalNames)
	switch n { // in the order in which a Server opens them
	case 0:
		name = "portal." + portalNames
	case 1:
		name = oauthName
	}
	l := &memoryListener{
		name:   memoryAddr(name),
		conns:  make(chan net.Conn),
		closed: make(chan struct{}),
	}
	m.listeners[name] = l
	return l, nil
}

func (m *memory) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[strings.ToLower(addr)]
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("b24test: nothing listens at %s in memory", addr)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("b24test: the Server is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memoryListener hands over one end of each pipe. Its channel is unbuffered,
// so no connection is left in it that nobody closes.
type memoryListener struct {
	name   memoryAddr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.name }

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }
