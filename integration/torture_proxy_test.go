package integration

import (
	"bytes"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
	"time"
)

// fleetProxy stands in front of a server and can make it look restarted:
// every connection dies, and new ones do not last until the server is back.
type fleetProxy struct {
	listener        net.Listener
	network, target string
	running         sync.WaitGroup

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]bool
	back     *time.Timer // ends the outage; nil if there is none
	outages  int
	answered map[string]time.Time // by refresh token: when the first byte of a new pair was sent
}

func startFleetProxy(t *testing.T, network, target string) *fleetProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fleetProxy{listener: l, network: network, target: target, conns: make(map[net.Conn]bool), answered: make(map[string]time.Time)}
	p.running.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.restart(0)
		p.running.Wait()
	})
	return p
}

func (p *fleetProxy) address() string { return p.listener.Addr().String() }

func (p *fleetProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.carry(client) })
	}
}

// carry connects a client with the server until either hangs up.
func (p *fleetProxy) carry(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout(p.network, p.target, 10*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.enter(client, server) {
		return
	}
	defer p.leave(client, server)
	w := &exchangeWitness{proxy: p, client: client}
	p.running.Go(func() {
		io.Copy(server, io.TeeReader(client, &w.asked))
		server.Close()
	})
	io.Copy(w, server)
}

// answeredAt returns when the first byte of the pair that a refresh token was
// exchanged for was sent to who asked; zero if it was not.
func (p *fleetProxy) answeredAt(refresh string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered[refresh]
}

// exchangeWitness writes an answer to the client, and notes when that began if
// the client has asked for a new pair and gets one.
type exchangeWitness struct {
	proxy  *fleetProxy
	client net.Conn
	asked  head
	began  bool
}

var exchanged = regexp.MustCompile(`^GET \S*[?&]refresh_token=([0-9a-f]+)`)

func (w *exchangeWitness) Write(b []byte) (int, error) {
	n, err := w.client.Write(b)
	if !w.began && n > 0 {
		w.began = true
		if token := exchanged.FindSubmatch(w.asked.bytes()); token != nil && bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
			w.proxy.mu.Lock()
			w.proxy.answered[string(token[1])] = time.Now()
			w.proxy.mu.Unlock()
		}
	}
	return n, err
}

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	kept []byte
}

func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, b[:min(len(b), 2048-len(h.kept))]...)
	return len(b), nil
}

func (h *head) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kept
}

func (p *fleetProxy) enter(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back != nil {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *fleetProxy) leave(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// restart ends all connections, and those that come within the next d.
func (p *fleetProxy) restart(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	if d == 0 || p.back != nil {
		return
	}
	p.outages++
	p.back = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.back = nil
	})
}

// count returns how often the server looked restarted.
func (p *fleetProxy) count() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outages
}
