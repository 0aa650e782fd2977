package b24oauth_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/racetest"
)

func TestTrailersAndInterimAnswersPass(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "early")
		w.WriteHeader(http.StatusEarlyHints)
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s", data, r.Trailer.Get("X-Sum"))
		w.Header().Set("X-Sum", "theirs")
	}))
	defer ts.Close()
	p := newProgramAt(t, ts.URL+"/rest/")
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
	})
	req := post(t, ts.URL+"/rest/m", formType, unknown("a=1")).WithContext(ctx)
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = summed{req.Body, req.Trailer}
	resp, err := p.over(base).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, resp); got != "auth=first&a=1 ours" || resp.Trailer.Get("X-Sum") != "theirs" || hints != 1 {
		t.Errorf("%q, trailer %v, %d interim answers", got, resp.Trailer, hints)
	}
}

// summed sets a trailer when its body ends, as net/http allows.
type summed struct {
	io.ReadCloser
	trailer http.Header
}

func (s summed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err == io.EOF {
		s.trailer.Set("X-Sum", "ours")
	}
	return n, err
}

func TestNotModifiedPasses(t *testing.T) {
	p := newProgramAt(t, stubPortal)
	resp, err := p.over(roundTripFunc(func(*http.Request) (*http.Response, error) {
		resp := answer(304, "")
		resp.Header.Set("Location", "https://new.example/")
		return resp, nil
	})).RoundTrip(get(t, stubPortal+"m"))
	if got := status(t, resp, err); got != 304 || p.refreshesAt() != 0 {
		t.Errorf("status %d after %d refreshes", got, p.refreshesAt())
	}
}

func TestUpgradesPass(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		rw.WriteString("echo " + line)
		rw.Flush()
	}))
	defer ts.Close()
	p := newProgramAt(t, ts.URL+"/rest/")
	req := get(t, ts.URL+"/rest/m")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := p.over(http.DefaultTransport).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	both, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != 101 || !ok {
		t.Fatalf("status %d and a %T, want 101 and something to write to", resp.StatusCode, resp.Body)
	}
	fmt.Fprintln(both, "hello")
	if line, err := bufio.NewReader(both).ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestStreamingAnswersAreNotHeldBack(t *testing.T) {
	for _, code := range []int{200, 302, 401, 403, 500} {
		release := make(chan struct{})
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, "first")
			http.NewResponseController(w).Flush()
			<-release
			io.WriteString(w, "second")
		}))
		t.Cleanup(ts.Close)
		p := newProgramAt(t, ts.URL+"/rest/")
		base := &http.Transport{}
		t.Cleanup(base.CloseIdleConnections)
		stop := time.AfterFunc(10*time.Second, func() { close(release) }) // so that a failure does not hang
		resp, err := p.over(base).RoundTrip(get(t, ts.URL+"/rest/m"))
		if err != nil {
			t.Fatal(err)
		}
		start := make([]byte, len("first"))
		_, err = io.ReadFull(resp.Body, start)
		if !stop.Stop() {
			t.Errorf("status %d: the answer was held back until its end", code)
		} else {
			close(release)
		}
		if rest := text(t, resp); err != nil || string(start)+rest != "firstsecond" {
			t.Errorf("status %d: %q, then %q, %v", code, start, rest, err)
		}
	}
}

func TestCloseIdleConnectionsReachesBase(t *testing.T) {
	closed := new(idleCounter)
	client := &http.Client{Transport: &b24oauth.Transport{Base: closed}}
	client.CloseIdleConnections()
	if closed.n != 1 {
		t.Errorf("Base was asked %d times, want once", closed.n)
	}
	(&b24oauth.Transport{Base: portal("x")}).CloseIdleConnections() // has none to close
}

type idleCounter struct {
	roundTripFunc
	n int
}

func (c *idleCounter) CloseIdleConnections() { c.n++ }

func TestHTTP2Works(t *testing.T) {
	var protos sync.Map
	var calls atomic.Int32
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		protos.Store(r.Proto, true)
		if strings.HasSuffix(r.URL.Path, "early") && r.URL.Query().Get("auth") == "first" {
			w.WriteHeader(401) // while the body is on its way
			io.WriteString(w, expiredBody)
			return
		}
		resp, err := portal("second")(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	base := ts.Client().Transport
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct{ name, path, kind, body string }{
		{"GET", "m", "", ""},
		{"form", "m", formType, "a=1"},
		{"JSON", "m", jsonType, `{"a":1}`},
		{"a megabyte", "m", formType, "a=" + long},
		{"refused early", "early", "text/plain", long},
	} {
		p := newProgramAt(t, ts.URL+"/rest/")
		calls.Store(0)
		body := watch(c.body)
		req := post(t, ts.URL+"/rest/"+c.path, c.kind, body)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(c.body)), nil }
		if c.kind == "" {
			req = get(t, ts.URL+"/rest/"+c.path)
		}
		l := &leaks{base: base}
		resp, err := p.over(l).RoundTrip(req)
		if got := status(t, resp, err); got != 200 || calls.Load() != 2 {
			t.Errorf("%s: status %d after %d calls, want 200 after 2", c.name, got, calls.Load())
		}
		l.check(t, 2)
		if c.kind != "" {
			body.check(t)
		}
	}
	if _, ok := protos.Load("HTTP/2.0"); !ok {
		t.Error("no request came over HTTP/2")
	}
}

func TestTransportIsSafeForConcurrentUse(t *testing.T) {
	p := newProgram(t)
	p.accept(t)
	const callers = 40
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for k := range 5 {
				if i == 0 {
					p.ExpireAccessTokens()
				}
				req := get(t, p.Endpoint()+"m")
				switch (i + k) % 3 {
				case 1:
					req = post(t, p.Endpoint()+"m", formType, "a=1")
				case 2:
					req = post(t, p.Endpoint()+"m", jsonType, `{"a":1}`)
				}
				resp, err := p.client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				// A token may be ended between its renewal and the replay.
				if resp.StatusCode != 200 && resp.StatusCode != 401 {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	if n := p.Refreshes(); n < 1 || n > 5 {
		t.Errorf("%d refreshes for 5 ends of a token", n)
	}
}

func TestGuarantee8CallerSeesTheTokenNowhere(t *testing.T) {
	p := newProgram(t)
	p.ExpireAccessTokens()
	resp, err := p.client.Get(p.Endpoint() + "m?a=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, want := resp.Request.URL.String(), p.Endpoint()+"m?a=1"; got != want || resp.Request.Header.Get("Authorization") != "" {
		t.Errorf("resp.Request is %s, want %s", got, want)
	}
	p.Close()
	_, err = p.client.Get(p.Endpoint() + "m?a=1")
	if err == nil || strings.Contains(err.Error(), token(t, p.source)) {
		t.Errorf("error %v, want one without the token", err)
	}
}

func TestGuarantee11ConstantMemoryAndFourAllocations(t *testing.T) {
	t.Run("the usual call allocates four times at most", fourAllocations)
	t.Run("a gigabyte of any kind takes no memory", gigabyte)
}

// drained answers every request with the same response, when it has read it.
func drained(resp *http.Response) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return nil, err
			}
			req.Body.Close()
		}
		return resp, nil
	}
}

func fourAllocations(t *testing.T) {
	if racetest.Enabled {
		t.Skip("the race detector allocates too")
	}
	p := newProgramAt(t, stubPortal)
	base := drained(answer(200, "{}"))
	through := p.over(base)
	for _, c := range []struct {
		name string
		req  *http.Request
		body string
		most float64
	}{
		{"GET", get(t, stubPortal+"crm.deal.list"), "", 1},
		{"GET with a query", get(t, stubPortal+"crm.deal.list?start=50"), "", 2},
		{"POST form", post(t, stubPortal+"crm.deal.add", formType, "TITLE=x&STAGE=y"), "TITLE=x&STAGE=y", 4},
		{"POST JSON", post(t, stubPortal+"crm.deal.add", jsonType, `{"fields":{"TITLE":"x"}}`), `{"fields":{"TITLE":"x"}}`, 4},
		{"POST JSON of v3", post(t, stubPortal+"api/tasks.task.add", jsonType, `{"fields":{"TITLE":"x"}}`), `{"fields":{"TITLE":"x"}}`, 1},
	} {
		measure := func(rt http.RoundTripper) float64 {
			body := new(bytes.Reader)
			return testing.AllocsPerRun(200, func() {
				if c.body != "" {
					body.Reset([]byte(c.body))
					c.req.Body = io.NopCloser(body)
				}
				if _, err := rt.RoundTrip(c.req); err != nil {
					t.Fatal(err)
				}
			})
		}
		added := measure(through) - measure(base)
		t.Logf("%s: %v allocations", c.name, added)
		if added > c.most {
			t.Errorf("%s: %v allocations, want %v at most", c.name, added, c.most)
		}
	}
}

// repeated is block again and again, n bytes in all.
type repeated struct {
	block string
	at, n int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n-r.at)], r.block[r.at%len(r.block):])
	r.at += n
	return n, nil
}

func gigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("sends three gigabytes")
	}
	size, limit := 1<<30, uint64(256<<10)
	if racetest.Enabled {
		size = 1 << 24 // the race detector is slow, and counts what it allocates itself
	}
	p := newProgramAt(t, stubPortal)
	for _, c := range []struct{ name, contentType, start, block, end string }{
		{"form", formType, "a=1&", strings.Repeat("fields[TITLE]=%D0%9F+world&auth=stale&author=me&", 1000), "&b=2"},
		{"JSON", jsonType, `{"a":[`, strings.Repeat(`{"id":17,"auth":"nested","TITLE":"a \"quoted\" word"},`, 1000), `0],"b":2}`},
		{"other", "application/octet-stream", "", strings.Repeat("0123456789abcdef", 4096), ""},
	} {
		n := size - size%len(c.block)
		req := post(t, stubPortal+"crm.deal.add", c.contentType, io.MultiReader(strings.NewReader(c.start), &repeated{block: c.block, n: n}, strings.NewReader(c.end)))
		var sent int64
		tr := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			var err error
			sent, err = io.Copy(io.Discard, req.Body)
			req.Body.Close()
			return answer(200, "{}"), err
		}))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := tr.RoundTrip(req)
		runtime.ReadMemStats(&after)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err)
		}
		if sent < int64(n) {
			t.Errorf("%s: %d bytes sent, want %d at least", c.name, sent, n)
		}
		grown := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d MiB sent, %d bytes allocated", c.name, sent>>20, grown)
		if grown > limit {
			t.Errorf("%s: %d bytes allocated, want %d at most", c.name, grown, limit)
		}
	}
}
