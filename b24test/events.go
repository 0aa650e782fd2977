package b24test

import (
	"net/http"
	"time"
)

// An Answer is what a test makes the server say instead of its own words.
type Answer struct {
	Status int         // 0: 500 Internal Server Error
	Header http.Header // without a Content-Type, a Body that begins with { is announced as JSON
	Body   string
}

// faults are what the test wants to go wrong.
type faults struct {
	failTokens  int
	tokenAnswer Answer
	delayTokens int
	delay       time.Duration
	cutTokens   int
	hold        chan struct{} // nil: token requests are not held
	rateLimit   int
	bucket      bucket
	refuse      int
	refusal     Answer
	canned      map[string]Answer // by method
}

// FailTokens makes the authorization server answer the next n token requests
// with a, before it looks at them: nothing is rotated.
func (s *Server) FailTokens(n int, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.failTokens, s.faults.tokenAnswer = n, a
}

// DelayTokens makes the next n token answers come d later. The server has
// done what it was asked by then: a client that gives up waiting has spent its
// refresh token. Use [Server.HoldTokens] to stop requests before that.
func (s *Server) DelayTokens(n int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.delayTokens, s.faults.delay = n, d
}

// CutTokens loses the next n token answers: the server has done what it was
// asked, refresh tokens are rotated, and the connection dies before the
// answer. Such a request has Status 0.
//
// Over a connection that it had used before, an [http.Client] sends a GET
// again by itself when this happens. The server then sees two requests.
func (s *Server) CutTokens(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.cutTokens = n
}

// HoldTokens makes token requests wait, after they have arrived and before
// the server looks at them, until release is called. They appear in
// [Server.TokenRequests] meanwhile. Release may be called more than once;
// holding again while holding is the same hold, which ends with its first
// release.
func (s *Server) HoldTokens() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.hold == nil {
		s.faults.hold = make(chan struct{})
	}
	hold := s.faults.hold
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.faults.hold == hold {
			s.faults.hold = nil
			close(hold)
		}
	}
}

// RateLimit refuses the next n REST calls with 503 QUERY_LIMIT_EXCEEDED,
// before their token is looked at.
func (s *Server) RateLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.rateLimit = n
}

// EnforceLimit gives the portal a budget of calls, as every real one has: a bucket that
// holds depth calls and loses rate of them in a second, 50 and 2 at Bitrix24. A call for
// which it has no room is refused with 503 QUERY_LIMIT_EXCEEDED, before its token is
// looked at, and does not fill it. A depth of 0, as at first, ends that.
func (s *Server) EnforceLimit(rate float64, depth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.bucket = bucket{rate: rate, depth: float64(depth)}
}

// bucket is a leaky one.
type bucket struct {
	rate, depth, level float64
	seen               time.Time
}

// full reports whether there is no room for a call, and else takes it.
func (b *bucket) full() bool {
	if b.depth == 0 {
		return false
	}
	now := time.Now()
	if !b.seen.IsZero() {
		b.level = max(0, b.level-now.Sub(b.seen).Seconds()*b.rate)
	}
	b.seen = now
	if b.level+1 > b.depth {
		return true
	}
	b.level++
	return false
}

// On makes the portal answer every call of a method, such as crm.deal.list, with a,
// if its token is good, until On is called for that method again. Within a batch
// a method has no answer of its own.
func (s *Server) On(method string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.canned == nil {
		s.faults.canned = make(map[string]Answer)
	}
	s.faults.canned[method] = a
}

// canned returns the answer that On has set.
func (s *Server) canned(method string) (a Answer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok = s.faults.canned[method]
	return a, ok
}

// RefuseNext answers the next n REST calls that reach the portal with a,
// whatever their token. Calls to an address it had before do not count.
func (s *Server) RefuseNext(n int, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.refuse, s.faults.refusal = n, a
}
