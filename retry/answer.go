package retry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/b24go/b24oauth/internal/resterror"
)

// The codes by which a portal says that it has not executed a call.
const (
	queryLimit      = "QUERY_LIMIT_EXCEEDED"
	timeLimit       = "OPERATION_TIME_LIMIT"
	overloadLimit   = "OVERLOAD_LIMIT"
	connectionError = "CONNECTION_ERROR"
)

// coded is a body whose code is known: the Backoff is asked for when it is gone.
type coded struct {
	io.ReadCloser
	code string
}

// codeOf returns the error code in an answer, in upper case, and leaves the answer
// whole.
func codeOf(ctx context.Context, resp *http.Response) string {
	if c, ok := resp.Body.(*coded); ok {
		return c.code
	}
	_, code := resterror.Inspect(ctx, resp)
	c := &coded{resp.Body, strings.ToUpper(code)}
	resp.Body = c
	return c.code
}

// resets remembers when the methods of portals may run again. A portal says so in each
// success, and in the refusal no longer.
type resets struct {
	mu sync.Mutex // guards at
	at map[call]time.Time
}

const (
	unknownReset = 10 * time.Second // after which a method is called again that has said nothing
	mostResets   = 10_000           // at which those that have passed are forgotten
	longestReset = time.Hour        // more than that is no answer of a portal's: its budget is of ten minutes
)

// after returns when the method may run again.
func (r *resets) after(c call) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.idempotent = false
	if at := r.at[c]; time.Now().Before(at) {
		return at
	}
	return time.Now().Add(unknownReset)
}

func (r *resets) set(c call, at time.Time) {
	if wait := time.Until(at); wait <= 0 || wait > longestReset {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = make(map[call]time.Time)
	}
	if len(r.at) >= mostResets {
		now := time.Now()
		for other, at := range r.at {
			if at.Before(now) {
				delete(r.at, other)
			}
		}
		if len(r.at) >= mostResets {
			clear(r.at)
		}
	}
	c.idempotent = false
	r.at[c] = at
}

// watch looks for the end of the method's budget in an answer while the caller reads
// it.
func (r *resets) watch(resp *http.Response, c call) {
	if c.method == "" || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return
	}
	resp.Body = &watched{ReadCloser: resp.Body, found: func(at time.Time) { r.set(c, at) }}
}

// watched finds the last operating_reset_at of what is read through it. In a text its
// quotation marks would be escaped.
type watched struct {
	io.ReadCloser
	found func(time.Time)
	tail  []byte // the end of what was read, in which the name may have begun
}

var resetName = []byte(`"operating_reset_at":`)

const longestNumber = 20

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.tail = append(w.tail, p[:n]...)
	if i := bytes.LastIndex(w.tail, resetName); i >= 0 {
		w.tail = w.tail[i:]
		number := w.tail[len(resetName):]
		digits := bytes.TrimLeft(number, " \t\r\n")
		if end := bytes.IndexFunc(digits, func(c rune) bool { return c < '0' || c > '9' }); end > 0 {
			if at, err := strconv.ParseInt(string(digits[:end]), 10, 64); err == nil {
				w.found(time.Unix(at, 0))
			}
		}
	}
	if keep := len(resetName) + longestNumber; len(w.tail) > keep {
		w.tail = append(w.tail[:0], w.tail[len(w.tail)-keep:]...)
	}
	return n, err
}
