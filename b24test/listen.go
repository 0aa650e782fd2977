package b24test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

func listenLoopback() (net.Listener, error) {
	return net.Listen("tcp", "127.0.0.1:0")
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

func (m *memory) listen() (net.Listener, error) {
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
