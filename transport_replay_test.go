package b24oauth_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/b24test"
)

func TestGuarantee5ReplayedOnceExactly(t *testing.T) {
	t.Run("after the answers that the protocol names", refusalsByCode)
	t.Run("never twice", neverTwice)
	t.Run("the answer reaches the caller whole", answersWhole)
	t.Run("a body that cannot be had again", bodyGone)
	t.Run("a body that nobody has read", bodyUnread)
	t.Run("a renewal that fails", renewalFails)
	t.Run("over one connection", oneConnection)
	t.Run("an ambiguous refusal", ambiguousRefusals)
	t.Run("an ambiguous refusal of what cannot be repeated", ambiguousRefusalsOfSpentBodies)
	t.Run("a refusal of HEAD has no body", refusedHead)
	t.Run("a refusal whose body does not end", endlessRefusals)
	t.Run("any other answer as soon as its headers are there", otherAnswersAtOnce)
}

// outcome is what a call came to.
type outcome struct{ Status, Calls, Refreshes int }

func (p *program) outcome(status int) outcome {
	return outcome{status, len(p.Requests()), p.Refreshes()}
}

func (p *program) check(t *testing.T, what string, want outcome, status int) {
	t.Helper()
	if diff := cmp.Diff(want, p.outcome(status)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func refusalsByCode(t *testing.T) {
	data, err := os.ReadFile("testdata/rest-errors.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []struct {
		Status     int
		Renew      any
		Type, Body string
	}
	if err := json.Unmarshal(data, &fixtures); err != nil {
		t.Fatal(err)
	}
	for _, f := range fixtures {
		p := newProgram(t)
		p.accept(t)
		p.RefuseNext(1, b24test.Answer{Status: f.Status, Header: http.Header{"Content-Type": {f.Type}}, Body: f.Body})
		resp, err := p.client.Do(post(t, p.Endpoint()+"crm.deal.add", formType, "a=1"))
		if err != nil {
			t.Fatal(err)
		}
		got := text(t, resp)
		want := outcome{200, 2, 1}
		if f.Renew == false {
			want = outcome{f.Status, 1, 0}
			if got != f.Body || resp.ContentLength != int64(len(f.Body)) || resp.Header.Get("Content-Type") != f.Type {
				t.Errorf("%s: the caller got %q of %d bytes as %s", f.Body, got, resp.ContentLength, resp.Header.Get("Content-Type"))
			}
		}
		p.check(t, f.Body, want, resp.StatusCode)
	}
	// A method's own answer is no refusal, whatever it says: the method has run.
	for _, code := range []int{200, 302, 400, 402, 403, 404, 409, 422, 429, 499, 500, 503} {
		for _, body := range []string{expiredBody, `{"error":"INVALID_TOKEN"}`, v3Denied, ""} {
			p := newProgram(t)
			p.RefuseNext(1, b24test.Answer{Status: code, Body: body})
			resp, err := p.client.Transport.RoundTrip(post(t, p.Endpoint()+"crm.deal.add", formType, "a=1"))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(t, resp); got != body {
				t.Errorf("status %d: body %q", code, got)
			}
			p.check(t, http.StatusText(code), outcome{code, 1, 0}, resp.StatusCode)
		}
	}
}

func neverTwice(t *testing.T) {
	for _, body := range []string{expiredBody, v3Denied, `{"error":"invalid_token"}`} {
		p := newProgram(t)
		p.accept(t)
		p.RefuseNext(3, b24test.Answer{Status: 401, Body: body})
		resp, err := p.client.Do(post(t, p.Endpoint()+"m", formType, "a=1"))
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, resp); got != body {
			t.Errorf("the caller got %q, want the second refusal %q", got, body)
		}
		p.check(t, body, outcome{401, 2, 1}, resp.StatusCode)
	}
}

func answersWhole(t *testing.T) {
	long := `{"error":"NO_SUCH_THING","error_description":"` + strings.Repeat("x", 70<<10) + `"}`
	longExpired := `{"error":"expired_token","error_description":"` + strings.Repeat("x", 70<<10) + `"}`
	late := `{"error_description":"` + strings.Repeat("x", 70<<10) + `","error":"expired_token"}`
	broken := errors.New("connection broken")
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		body   io.Reader
		want   string // "": the request is repeated
		err    error
	}{
		{name: "70 KiB", status: 400, body: strings.NewReader(long), want: long},
		{name: "70 KiB of a refusal", status: 401, body: strings.NewReader(longExpired)},
		{name: "a code after 64 KiB", status: 401, body: strings.NewReader(late), want: late},
		{name: "64 KiB exactly", status: 401, body: strings.NewReader(strings.Repeat("x", 64<<10)), want: strings.Repeat("x", 64<<10)},
		{name: "one byte more", status: 401, body: strings.NewReader(strings.Repeat("x", 64<<10+1)), want: strings.Repeat("x", 64<<10+1)},
		{name: "gzip", status: 401, header: http.Header{"Content-Encoding": {"gzip"}}, body: strings.NewReader(zipped(t, expiredBody))},
		{name: "gzip of 70 KiB", status: 401, header: http.Header{"Content-Encoding": {"GZIP"}}, body: strings.NewReader(zipped(t, longExpired))},
		{name: "gzip of something else", status: 401, header: http.Header{"Content-Encoding": {"gzip"}}, body: strings.NewReader(zipped(t, "{}")), want: zipped(t, "{}")},
		{name: "gzip that is none", status: 401, header: http.Header{"Content-Encoding": {"gzip"}}, body: strings.NewReader("{}")},
		{name: "an encoding that only the caller reads", status: 401, header: http.Header{"Content-Encoding": {"br"}}, body: strings.NewReader("brotli")},
		{name: "an encoding that only the caller reads, of another status", status: 400, header: http.Header{"Content-Encoding": {"br"}}, body: strings.NewReader("brotli"), want: "brotli"},
		{name: "broken off", status: 401, body: io.MultiReader(strings.NewReader(expiredBody[:20]), failingReader{broken}), want: expiredBody[:20], err: broken},
		{name: "broken off after the code", status: 401, body: io.MultiReader(strings.NewReader(expiredBody), failingReader{broken})},
		{name: "broken off after another code", status: 401, body: io.MultiReader(strings.NewReader(long), failingReader{broken}), want: long, err: broken},
		{name: "HTML", status: 401, body: strings.NewReader("<html>no</html>"), want: "<html>no</html>"},
	} {
		p := newProgramAt(t, stubPortal)
		calls := 0
		tr := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if calls++; calls > 1 {
				return answer(200, "{}"), nil
			}
			resp := answer(c.status, "")
			resp.Header, resp.ContentLength, resp.Body = c.header, -1, io.NopCloser(c.body)
			return resp, nil
		}))
		req := get(t, stubPortal+"m")
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		switch {
		case c.want == "":
			if resp.StatusCode != 200 || calls != 2 {
				t.Errorf("%s: status %d after %d calls, want it repeated", c.name, resp.StatusCode, calls)
			}
		case resp.StatusCode != c.status || calls != 1 || string(got) != c.want || !errors.Is(err, c.err):
			t.Errorf("%s: status %d after %d calls, %d bytes and %v; want %d, 1, %d, %v", c.name, resp.StatusCode, calls, len(got), err, c.status, len(c.want), c.err)
		}
	}
	t.Run("no body at all", func(t *testing.T) {
		p := newProgramAt(t, stubPortal)
		calls := 0
		resp, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if calls++; calls > 1 {
				return answer(200, "{}"), nil
			}
			return &http.Response{StatusCode: 401}, nil
		})).RoundTrip(get(t, stubPortal+"m"))
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200", got)
		}
	})
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func bodyGone(t *testing.T) {
	for _, c := range []struct{ name, kind, body string }{
		{"form", formType, "a=1"}, {"JSON", jsonType, `{"a":1}`}, {"JSON list", jsonType, `[1]`}, {"other", "text/plain", "x"},
	} {
		for _, broken := range []bool{false, true} {
			p := newProgram(t)
			p.ExpireAccessTokens()
			old := token(t, p.source)
			l := &leaks{base: p.base()}
			req := post(t, p.Endpoint()+"crm.deal.add", c.kind, unknown(c.body))
			if broken {
				req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file is gone") }
			}
			resp, err := p.over(l).RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := text(t, resp); got != expiredBody {
				t.Errorf("%s: the caller got %q, want the 401 whole", c.name, got)
			}
			p.check(t, c.name, outcome{401, 1, 1}, resp.StatusCode)
			l.check(t, 1)
			if token(t, p.source) == old {
				t.Errorf("%s: the token was not renewed for the next call", c.name)
			}
			resp, err = p.client.Do(post(t, p.Endpoint()+"crm.deal.add", c.kind, unknown(c.body)))
			if got := status(t, resp, err); got != 200 {
				t.Errorf("%s: the next call got %d", c.name, got)
			}
		}
	}
}

func bodyUnread(t *testing.T) {
	kinds := []struct{ name, kind, body, want string }{
		{"form", formType, "a=1", "auth=second&a=1"},
		{"JSON", jsonType, ` {"a":1}`, ` {"a":1,"auth":"second"}`},
		{"JSON list", jsonType, ` [1]`, ` [1]`},
		{"other", "text/plain", "x", "x"},
	}
	for _, c := range kinds {
		for _, close := range []bool{true, false} {
			p := newProgramAt(t, stubPortal)
			body := watch(c.body)
			var got []string
			var first io.ReadCloser
			resp, err := p.over(roundTripFunc(func(req *http.Request) (*http.Response, error) {
				if first == nil {
					if first = req.Body; close {
						first.Close()
						first.Close()
					}
					return answer(401, expiredBody), nil
				}
				// The first attempt has lost the body to this one.
				if n, err := first.Read(make([]byte, 9)); c.name == "other" && (n > 0 || err == nil) {
					t.Errorf("the first attempt still reads %d bytes of the body", n)
				}
				first.Close()
				data, err := io.ReadAll(req.Body)
				got = append(got, string(data))
				req.Body.Close()
				return answer(200, "{}"), err
			})).RoundTrip(post(t, stubPortal+"m", c.kind, body))
			if code := status(t, resp, err); code != 200 {
				t.Errorf("%s: status %d, want 200", c.name, code)
			}
			if diff := cmp.Diff([]string{c.want}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
			body.check(t)
		}
	}
	t.Run("Expect: 100-continue", func(t *testing.T) {
		for _, c := range kinds {
			portal := continueServer(t)
			p := newProgramAt(t, "http://"+portal.addr+"/rest/")
			base := &http.Transport{ExpectContinueTimeout: time.Minute}
			t.Cleanup(base.CloseIdleConnections)
			body := watch(c.body)
			req := post(t, "http://"+portal.addr+"/rest/m", c.kind, body)
			req.Header.Set("Expect", "100-continue")
			resp, err := p.over(base).RoundTrip(req)
			if code := status(t, resp, err); code != 200 {
				t.Errorf("%s: status %d, want 200", c.name, code)
			}
			if got := <-portal.body; got != c.want {
				t.Errorf("%s: the portal read %q, want %q", c.name, got, c.want)
			}
			body.check(t)
		}
	})
}

// hasty is a portal that refuses the token "first" before it has asked for
// the body.
type hasty struct {
	addr string
	body chan string
}

func continueServer(t *testing.T) hasty {
	t.Helper()
	h := hasty{body: make(chan string, 1)}
	first := true
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			w.WriteHeader(401) // without reading, so without 100 Continue
			io.WriteString(w, expiredBody)
			return
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.body <- string(data)
	}))
	t.Cleanup(ts.Close)
	h.addr = ts.Listener.Addr().String()
	return h
}
