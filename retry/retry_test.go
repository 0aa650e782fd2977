package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/retry"
)

const key = "example"

// world is a portal, and a client that repeats over that of b24oauth, in a bubble.
type world struct {
	*b24test.Server
	config *b24oauth.Config
	policy retry.Policy
	client *http.Client
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Server: b24test.NewMemoryServer()}
	t.Cleanup(w.Close)
	w.config = w.Config()
	w.config.Store = new(b24oauth.MemoryStore)
	if err := w.config.Save(t.Context(), key, w.Install()); err != nil {
		t.Fatal(err)
	}
	w.client = w.policy.Client(w.HTTPClient(w.config, key))
	return w
}

// call posts a form and returns the status, 0 for an error.
func (w *world) call(t *testing.T, method string, change ...func(*http.Request)) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.Endpoint()+method, strings.NewReader("fields%5BTITLE%5D=A"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(req)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), nil
}

func bubble(t *testing.T, do func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(t, start(t)) })
}

func TestALimitOfCallsIsWaitedForWhateverTheMethod(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RateLimit(4)
		begun := time.Now()
		status, body, err := w.call(t, "crm.deal.add")
		if status != 200 || err != nil || !strings.Contains(body, "TITLE") {
			t.Errorf("%d %s %v", status, body, err)
		}
		if d := time.Since(begun).Round(time.Millisecond); d != 8125*time.Millisecond { // 1 + 1.5 + 2.25 + 3.375
			t.Errorf("it took %v", d)
		}
	})
}

func TestWhatMayHaveBeenExecutedIsRepeatedOnlyIfItMayBe(t *testing.T) {
	v3 := func(r *http.Request) {
		r.Header.Set("Idempotency-Key", "one")
		r.Header.Set("Content-Type", "application/json")
	}
	for _, test := range []struct {
		method string
		verb   string
		change func(*http.Request)
		again  bool
	}{
		{"crm.deal.add", "POST", nil, false},
		{"crm.deal.add", "GET", nil, false},
		{"crm.deal.list", "POST", nil, true},
		{"crm.deal.LIST.json", "POST", nil, true},
		{"crm.deal.get", "GET", nil, true},
		{"crm.deal.fields", "POST", nil, true},
		{"crm.deal.getlist", "POST", nil, false},
		{"batch", "POST", nil, false},
		{"crm.deal.update", "POST", nil, true}, // named below
		{"api/tasks.task.add", "POST", v3, true},
		{"api/tasks.task.add", "POST", nil, false},
		{"crm.lead.add", "POST", v3, false}, // version 2 does not know the header
	} {
		for _, status := range []int{500, 502, 503, 504} {
			t.Run(fmt.Sprint(test.verb, " ", test.method, " ", status), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					w.policy.Repeatable = []string{"crm.deal.update"}
					w.RefuseNext(1, b24test.Answer{Status: status, Body: "<html>Bad Gateway</html>"})
					change := func(r *http.Request) {
						r.Method = test.verb
						if test.change != nil {
							test.change(r)
						}
					}
					got, body, err := w.call(t, test.method, change)
					if err != nil || (got == 200) != test.again {
						t.Errorf("%d %s, %v", got, body, err)
					}
					if n := len(w.Requests()); (n == 2) != test.again {
						t.Errorf("%d requests", n)
					}
				})
			})
		}
	}
}

func TestWhatNoRepetitionHealsIsAnsweredAtOnce(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
	}{
		{503, `{"error":"OVERLOAD_LIMIT"}`},
		{401, `{"error":"insufficient_scope"}`},
		{400, `{"error":"ERROR_CORE","error_description":"QUERY_LIMIT_EXCEEDED"}`},
		{404, `not found`},
		{501, ``},
		{302, ``},
	} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				begun := time.Now()
				w.RefuseNext(2, b24test.Answer{Status: test.status, Body: test.body})
				status, body, err := w.call(t, "crm.deal.list")
				if status != test.status || body != test.body || err != nil || time.Since(begun) > 0 {
					t.Errorf("%d %s, %v, after %v", status, body, err, time.Since(begun))
				}
			})
		})
	}
}

func TestAMethodOverItsTimeIsCalledAgainWhenItsBudgetBeginsAnew(t *testing.T) {
	const limited = `{"error":"OPERATION_TIME_LIMIT"}`
	bubble(t, func(t *testing.T, w *world) {
		reset := time.Now().Add(7 * time.Minute).Unix()
		w.On("crm.deal.list", b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"result":["\"operating_reset_at\":1"],"time":{"operating":479.5,"operating_reset_at": %d}}`, reset)})
		w.call(t, "crm.deal.list")
		w.RefuseNext(1, b24test.Answer{Status: 429, Body: limited})
		status, _, err := w.call(t, "crm.deal.list")
		if d := time.Now().Unix() - reset; status != 200 || err != nil || d < 0 || d > 1 {
			t.Errorf("%d, %v, %d s after the reset", status, err, d)
		}

		// Another method has a budget of its own, of which nothing is known.
		begun := time.Now()
		w.RefuseNext(1, b24test.Answer{Status: 429, Body: limited})
		if w.call(t, "crm.deal.add"); time.Since(begun).Round(time.Second) != 10*time.Second {
			t.Errorf("it took %v", time.Since(begun))
		}
	})
	bubble(t, func(t *testing.T, w *world) { // whose caller does not have the time
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		w.RefuseNext(1, b24test.Answer{Status: 429, Body: limited})
		status, body, err := w.call(t, "crm.deal.add", func(r *http.Request) { *r = *r.WithContext(ctx) })
		if status != 429 || body != limited || err != nil || time.Since(begun) > 0 {
			t.Errorf("%d %s, %v, after %v", status, body, err, time.Since(begun))
		}
	})
}

func TestTheEndOfABudgetIsFoundHoweverTheAnswerIsRead(t *testing.T) {
	for size := range 80 {
		bubble(t, func(t *testing.T, w *world) {
			reset := time.Now().Add(time.Minute).Unix()
			w.On("x.list", b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"result":1,"time":{"operating_reset_at":%d}}`, reset)})
			resp, err := w.client.Get(w.Endpoint() + "x.list")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for buf := make([]byte, size+1); err == nil; {
				_, err = resp.Body.Read(buf)
			}
			w.RefuseNext(1, b24test.Answer{Status: 429, Body: `{"error":"OPERATION_TIME_LIMIT"}`})
			if w.call(t, "x.list"); time.Now().Unix() != reset {
				t.Errorf("read in pieces of %d: called again at %d, want %d", size+1, time.Now().Unix(), reset)
			}
		})
	}
}

func TestATokenThatCannotBeHadIsAskedForAgainUnlessThatIsFinal(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ExpireAccessTokens()
		w.FailTokens(3, b24test.Answer{Status: 503})
		if status, body, err := w.call(t, "crm.deal.add"); status != 200 || err != nil {
			t.Errorf("%d %s %v", status, body, err)
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		w.ExpireAccessTokens()
		w.KillGrants()
		begun := time.Now()
		_, _, err := w.call(t, "crm.deal.list")
		if !errors.Is(err, b24oauth.ErrReauthorize) || time.Since(begun) > 0 || len(w.TokenRequests()) != 1 {
			t.Errorf("%v, after %v and %d token requests", err, time.Since(begun), len(w.TokenRequests()))
		}
	})
}

// failing is a transport that fails so many times.
type failing struct {
	err  error
	left int
	base http.RoundTripper
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.left--; f.left >= 0 {
		return nil, f.err
	}
	return f.base.RoundTrip(r)
}

func TestAnErrorOfTheNetworkIsRepeatedIfTheCallMayBe(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	read := &net.OpError{Op: "read", Err: errors.New("reset by peer")}
	for _, test := range []struct {
		method string
		err    error
		again  bool
	}{
		{"crm.deal.list", read, true},
		{"crm.deal.add", read, false},
		{"crm.deal.add", io.ErrUnexpectedEOF, false},
		{"crm.deal.add", dial, true}, // nobody was there to execute it
	} {
		bubble(t, func(t *testing.T, w *world) {
			w.client = w.policy.Client(&http.Client{Transport: &failing{test.err, 1, w.client.Transport}})
			status, _, err := w.call(t, test.method)
			if (status == 200) != test.again || !test.again && !errors.Is(err, test.err) {
				t.Errorf("%s after %v: %d, %v", test.method, test.err, status, err)
			}
		})
	}
}

func TestALastAnswerIsTheCallersWhole(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RateLimit(100)
		status, body, err := w.call(t, "crm.deal.list")
		if status != 503 || !strings.Contains(body, "QUERY_LIMIT_EXCEEDED") || err != nil || len(w.Requests()) != 6 {
			t.Errorf("%d %s, %v, after %d requests", status, body, err, len(w.Requests()))
		}
	})
}

func TestABodyThatCannotBeHadAgainIsSentOnceAndStreamed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RateLimit(1)
		status, body, err := w.call(t, "crm.deal.list", func(r *http.Request) { r.GetBody = nil })
		if status != 503 || err != nil || len(w.Requests()) != 1 {
			t.Errorf("%d %s, %v", status, body, err)
		}
	})
}

func TestTheWaitingEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RateLimit(100)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _, err := w.call(t, "crm.deal.list", func(r *http.Request) { *r = *r.WithContext(ctx) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestAClientOfOnesOwnRepeatsByThePolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		client := retryablehttp.NewClient()
		client.Logger = nil
		client.HTTPClient = w.HTTPClient(w.config, key)
		client.CheckRetry, client.Backoff = w.policy.CheckRetry, w.policy.Backoff
		var n []int
		for _, method := range []string{"crm.deal.list", "crm.deal.add"} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", w.Endpoint()+method, strings.NewReader("a=b"))
			if err != nil {
				t.Fatal(err)
			}
			again, err := retry.Request(req)
			if err != nil {
				t.Fatal(err)
			}
			w.Reset()
			w.RefuseNext(1, b24test.Answer{Status: 502})
			if resp, err := client.Do(again); err == nil {
				resp.Body.Close()
			}
			n = append(n, len(w.Requests()))
		}
		if diff := cmp.Diff([]int{2, 1}, n); diff != "" {
			t.Error(diff)
		}
		if _, err := retry.Request(&http.Request{Method: "POST", Body: io.NopCloser(strings.NewReader("a"))}); err == nil {
			t.Error("a body that cannot be had again is no error")
		}
	})
}

func TestAGatewayThatSaysWhenIsAskedThen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.RefuseNext(1, b24test.Answer{Status: 503, Header: http.Header{"Retry-After": {"3"}}})
		begun := time.Now()
		if status, _, err := w.call(t, "crm.deal.list"); status != 200 || err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("%d, %v, after %v", status, err, time.Since(begun))
		}
	})
}

func TestAnAnswerThatKnowsNoRequestIsJudgedToo(t *testing.T) {
	var p retry.Policy
	resp := func(status int, body string) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	}
	if again, err := p.CheckRetry(t.Context(), resp(503, `{"error":"QUERY_LIMIT_EXCEEDED"}`), nil); !again || err != nil {
		t.Errorf("%v, %v", again, err)
	}
	if again, err := p.CheckRetry(t.Context(), resp(502, ``), nil); again || err != nil {
		t.Errorf("%v, %v", again, err)
	}
	if d := p.Backoff(time.Second, time.Minute, 1, resp(503, `{"error":"QUERY_LIMIT_EXCEEDED"}`)); d != 1500*time.Millisecond {
		t.Errorf("the pause is %v", d)
	}
}
