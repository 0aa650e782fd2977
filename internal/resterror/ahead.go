package resterror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
)

// ahead is a body whose start is read ahead on a goroutine, which ends with the
// body, after maxBody bytes, or when the body is closed. Nobody else reads the
// body until then.
type ahead struct {
	ctx       context.Context
	body      io.Reader
	closeBody func() error  // once
	arrived   chan struct{} // has room for one: start tells more than before
	closed    chan struct{}

	mu    sync.Mutex // guards what follows
	head  []byte     // what was read; its bytes do not change any more
	at    int        // how much of it was delivered
	full  bool       // head has maxBody bytes, and the rest is in body
	err   error      // how the body ended
	ended bool       // closed is closed
}

func readAhead(ctx context.Context, body io.ReadCloser) *ahead {
	a := &ahead{
		ctx: ctx, body: body, closeBody: sync.OnceValue(body.Close),
		arrived: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	go a.fill()
	return a
}

// maxIdleReads is how often in a row a body may return nothing, as in bufio.
const maxIdleReads = 100

func (a *ahead) fill() {
	head := make([]byte, 0, 512)
	for idle, going := 0, true; going; {
		n, err := a.readSome(head[len(head):min(cap(head), maxBody)])
		if idle++; n > 0 {
			idle = 0
		} else if idle == maxIdleReads && err == nil {
			err = io.ErrNoProgress
		}
		if err == io.EOF {
			a.closeBody()
		}
		head = head[:len(head)+n]
		a.mu.Lock()
		a.head, a.full, a.err = head, len(head) == maxBody, err
		going = !a.full && err == nil
		a.mu.Unlock()
		select {
		case a.arrived <- struct{}{}:
		default:
		}
		head = slices.Grow(head, 1)
	}
}

// readSome is body.Read, whose panic would end the program here, where no
// caller can recover from it.
func (a *ahead) readSome(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, errors.New("b24oauth: reading the answer's body panicked: "+redact.Panic(v))
		}
	}()
	return a.body.Read(p)
}

// start returns what was read so far, whether there may be more than is read
// ahead, and how the body has ended if it has.
func (a *ahead) start() (head []byte, full bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.head, a.full, a.err
}

func (a *ahead) Read(p []byte) (int, error) {
	for {
		a.mu.Lock()
		n := copy(p, a.head[a.at:])
		a.at += n
		ended, full, err := a.ended, a.full, a.err
		a.mu.Unlock()
		switch {
		case ended:
			return 0, http.ErrBodyReadAfterClose
		case n > 0 || len(p) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case full:
			return a.body.Read(p)
		}
		select {
		case <-a.arrived:
		case <-a.closed:
		case <-a.ctx.Done():
			return 0, ctxend.Wrap("b24oauth: the answer's body was not read to its end", ctxend.Of(a.ctx))
		}
	}
}

// Close ends a Read that is waiting, and the goroutine's.
func (a *ahead) Close() error {
	a.mu.Lock()
	if !a.ended {
		a.ended = true
		close(a.closed)
	}
	a.mu.Unlock()
	return a.closeBody()
}
