package redisstore_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cut says which commands a proxy cuts the connection at, or holds back.
type cut struct {
	digest  string // of the script
	when    moment
	times   int             // so many are cut
	then    func()          // called when Redis did it, before the client learns of the cut; may be nil
	deliver <-chan struct{} // closed when Redis is to get what is late
}

type moment string

const (
	before moment = "before Redis got it"
	after  moment = "after Redis did it"
	late   moment = "when Redis is to get it"
)

// proxy stands between a client and Redis and loses connections.
type proxy struct {
	addr, target string // no target: nobody answers

	silent atomic.Bool // no answer is brought any more

	mu    sync.Mutex
	cut   cut            // guarded by mu
	every bool           // guarded by mu
	seen  map[string]int // how many requests Redis got, by the script's digest; guarded by mu
	conns []net.Conn     // guarded by mu
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, seen: make(map[string]int)}
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.track(c)
			if target != "" {
				go p.serve(c)
			}
		}
	}()
	return p
}

func (p *proxy) track(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func (p *proxy) set(c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = c
}

// cutsAt tells whether and how to cut the connection at this request.
func (p *proxy) cutsAt(request []byte) (cut, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut.times == 0 || !bytes.Contains(request, []byte(p.cut.digest)) {
		return cut{}, false
	}
	if p.cut.times > 0 {
		p.cut.times--
		return p.cut, true
	}
	p.every = !p.every
	return p.cut, p.every
}

// counts takes note of what Redis was sent.
func (p *proxy) counts(request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, digest := range scripts {
		p.seen[digest] += bytes.Count(request, []byte(digest))
	}
}

// count returns how many requests for that script Redis got.
func (p *proxy) count(digest string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[digest]
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	redis, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.track(redis)
	defer redis.Close()
	var cutNow atomic.Pointer[cut]
	go func() {
		defer client.Close()
		defer redis.Close()
		answer := make([]byte, 1<<16)
		for {
			n, err := redis.Read(answer)
			if c := cutNow.Load(); err == nil && c != nil && c.then != nil {
				c.then()
			}
			if err != nil || cutNow.Load() != nil {
				return
			}
			if !p.silent.Load() {
				client.Write(answer[:n])
			}
		}
	}()
	request := make([]byte, 1<<16)
	for {
		n, err := client.Read(request)
		if err != nil {
			return
		}
		c, cuts := p.cutsAt(request[:n])
		switch {
		case cuts && c.when == before:
			return
		case cuts && c.when == after:
			cutNow.Store(&c)
		case cuts:
			<-c.deliver
		}
		redis.Write(request[:n])
		p.counts(request[:n])
	}
}
