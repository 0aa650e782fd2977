// Package retry says which calls of Bitrix24's REST API may be sent again, for
// [github.com/hashicorp/go-retryablehttp] above a [b24oauth.Transport].
//
// What repeats requests by their verb or status adds a deal twice: a portal that
// answers 502 may have executed the method, and a GET of crm.deal.add writes. The
// defaults of go-retryablehttp do that, and ask for a dead grant's token for fifteen
// seconds. A [Policy] repeats
//
//   - what was refused before it was executed, whatever it is: QUERY_LIMIT_EXCEEDED,
//     OPERATION_TIME_LIMIT, CONNECTION_ERROR, a connection that was not made, and a
//     token that cannot be had for now;
//   - what failed in any other way that passes, a 5xx or a network error, if it may be
//     executed twice: methods that read (*.get, *.list, *.fields), those that the
//     program names, and calls of version 3 with an Idempotency-Key;
//   - nothing else. OVERLOAD_LIMIT is a block by hand, and no repetition lifts it.
//
// The usual way is a client:
//
//	client := new(retry.Policy).Client(config.Client("example"))
package retry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth"
)

// A Policy decides what is sent again, and when. The zero value is ready for use; it
// remembers when each method may run again, so share it by pointer between clients.
// It is safe for concurrent use.
type Policy struct {
	// Repeatable are the methods that may be executed twice beside those that only
	// read, such as crm.deal.update with values that do not depend on those before. Do
	// not change it after the first use.
	Repeatable []string

	resets resets
}

// attempts is how often a client of a Policy sends a request at most.
const attempts = 6

// Client returns a client that sends what c does, such as that of
// [b24oauth.Config.Client], and sends it again as the Policy says, at most five times.
// A request whose body cannot be had again, having no GetBody, is sent once. An answer
// that is an error after the last time is the caller's, whole. The context of a request
// bounds all of it; a Timeout of c bounds each time.
func (p *Policy) Client(c *http.Client) *http.Client {
	return &http.Client{
		Transport: &transport{base: c, client: &retryablehttp.Client{
			HTTPClient:   c,
			CheckRetry:   p.CheckRetry,
			Backoff:      p.Backoff,
			RetryWaitMin: time.Second,
			RetryWaitMax: 30 * time.Second,
			RetryMax:     attempts - 1,
			ErrorHandler: retryablehttp.PassthroughErrorHandler,
		}},
		// c has followed what is to be followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport sends a request by a retryablehttp.Client, if it can be sent twice.
type transport struct {
	base   *http.Client
	client *retryablehttp.Client
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		resp, err = t.base.Do(r)
	} else {
		var again *retryablehttp.Request
		if again, err = Request(r); err == nil {
			resp, err = t.client.Do(again)
		}
		if r.Body != nil {
			r.Body.Close() // GetBody's are what was sent
		}
	}
	if ofURL, ok := err.(*url.Error); ok { // the client around this one makes its own
		err = ofURL.Err
	}
	return resp, err
}

// CheckRetry is a [retryablehttp.CheckRetry]. It says no to an error of a request that
// [Request] has not made, since go-retryablehttp does not tell which one that was.
func (p *Policy) CheckRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return p.repeatsError(ctx, err), nil
	}
	about := callOf(ctx, resp)
	if resp.StatusCode < 300 {
		p.resets.watch(resp, about)
		return false, nil
	}
	switch code := codeOf(ctx, resp); {
	case code == queryLimit, code == connectionError:
		return true, nil
	case code == overloadLimit:
		return false, nil
	case code == timeLimit:
		deadline, ends := ctx.Deadline()
		return !ends || p.resets.after(about).Before(deadline), nil
	}
	return resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented && p.mayRunTwice(about), nil
}

// repeatsError reports whether a request that brought no answer is sent again.
func (p *Policy) repeatsError(ctx context.Context, err error) bool {
	if ofToken, ok := errors.AsType[*b24oauth.TokenError](err); ok {
		return !ofToken.Permanent() // it was not executed: there was no token, or a refused one
	}
	if again, _ := retryablehttp.DefaultRetryPolicy(ctx, nil, err); !again {
		return false // such as a certificate that is not valid
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	return p.mayRunTwice(callOf(ctx, nil))
}

// mayRunTwice reports whether executing the call once more changes nothing. It does not
// ask for the verb: a portal executes a GET like a POST.
func (p *Policy) mayRunTwice(c call) bool {
	if c.method == "" {
		return false
	}
	if c.idempotent || slices.ContainsFunc(p.Repeatable, func(name string) bool { return strings.EqualFold(name, c.method) }) {
		return true
	}
	return slices.Contains([]string{".get", ".list", ".fields"}, strings.ToLower(path.Ext(c.method)))
}

// Backoff is a [retryablehttp.Backoff]: min × 1.5^n after QUERY_LIMIT_EXCEEDED, since
// the bucket of calls empties steadily, and min × 2^n else, both at most max; as long as
// Retry-After says, if anything does; and after OPERATION_TIME_LIMIT until the method may
// run again, as its last answer said, or ten seconds. go-retryablehttp's own min and
// max are 1 s and 30 s.
func (p *Policy) Backoff(min, max time.Duration, n int, resp *http.Response) time.Duration {
	if resp == nil {
		return growing(min, max, n, 2)
	}
	if resp.Header.Get("Retry-After") != "" {
		return retryablehttp.DefaultBackoff(min, max, n, resp)
	}
	ctx := context.Background()
	if resp.Request != nil {
		ctx = resp.Request.Context()
	}
	switch codeOf(ctx, resp) {
	case timeLimit:
		return time.Until(p.resets.after(callOf(ctx, resp)))
	case queryLimit:
		return growing(min, max, n, 1.5)
	}
	return growing(min, max, n, 2)
}

// growing returns min × factor^n, at most max.
func growing(min, max time.Duration, n int, factor float64) time.Duration {
	d := float64(min)
	for range n {
		if d *= factor; d >= float64(max) {
			return max
		}
	}
	return time.Duration(d)
}

// Request makes a request for a [retryablehttp.Client] of the program's own, whose
// CheckRetry and Backoff are a Policy's. Its context carries which method it calls. A
// body needs GetBody, as those have that [http.NewRequest] knows; without it the error
// says so, since all of it would have to be read into memory.
func Request(r *http.Request) (*retryablehttp.Request, error) {
	body := r.Body
	if body != nil && body != http.NoBody && r.GetBody == nil {
		return nil, errors.New("b24oauth/retry: the request's body cannot be had again: set GetBody, or send it by a client that does not repeat")
	}
	bare := r.WithContext(context.WithValue(r.Context(), callKey{}, newCall(r)))
	bare.Body = nil
	again, err := retryablehttp.FromRequest(bare)
	if err != nil || body == nil || body == http.NoBody {
		return again, err
	}
	err = again.SetBody(func() (io.Reader, error) { return r.GetBody() })
	again.ContentLength = r.ContentLength
	return again, err
}
