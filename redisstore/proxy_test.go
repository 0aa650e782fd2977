package redisstore_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cut says which commands a proxy cuts the connection at.
type cut struct {
	digest string // of the script
	when   moment
	times  int // so many are cut
}

type moment string

const (
	before moment = "before Redis got it"
	after  moment = "after Redis did it"
)

// proxy stands between a client and Redis and loses connections.
type proxy struct {
	addr, target string // no target: nobody answers

	silent atomic.Bool // no answer is brought any more

	mu    sync.Mutex
	cut   cut        // guarded by mu
	every bool       // guarded by mu
	conns []net.Conn // guarded by mu
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target}
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
			p.keep(c)
			if target != "" {
				go p.serve(c)
			}
		}
	}()
	return p
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func (p *proxy) set(c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = c
}

// cutsAt tells whether to cut the connection at this request, and counts.
func (p *proxy) cutsAt(request []byte) (moment, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut.times == 0 || !bytes.Contains(request, []byte(p.cut.digest)) {
		return "", false
	}
	if p.cut.times > 0 {
		p.cut.times--
		return p.cut.when, true
	}
	p.every = !p.every
	return p.cut.when, p.every
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	redis, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.keep(redis)
	defer redis.Close()
	var mute atomic.Bool
	go func() {
		defer client.Close()
		defer redis.Close()
		answer := make([]byte, 1<<16)
		for {
			n, err := redis.Read(answer)
			if err != nil || mute.Load() {
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
		when, cut := p.cutsAt(request[:n])
		if cut && when == before {
			return
		}
		mute.Store(cut)
		redis.Write(request[:n])
	}
}
