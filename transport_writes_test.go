package b24oauth_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/b24go/b24oauth"
)

// countedConn is a connection that counts what is written to it: each write is
// a packet, or the start of one, and a system call.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// wire is a portal in one of the ways that net/http reaches it.
type wire struct {
	endpoint string
	base     *http.Transport
	writes   atomic.Int64
}

func newWire(t *testing.T, secure, http2 bool) *wire {
	t.Helper()
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		// No answer: HTTP/2 acknowledges so many bytes of it now and then.
	}))
	ts.EnableHTTP2 = http2
	if secure {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	t.Cleanup(ts.Close)
	w := &wire{endpoint: ts.URL + "/rest/", base: ts.Client().Transport.(*http.Transport)}
	var dialer net.Dialer
	w.base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		return countedConn{c, &w.writes}, err
	}
	return w
}

// count returns how many writes a request costs on a connection that is open.
func (w *wire) count(t *testing.T, rt http.RoundTripper, req *http.Request) int64 {
	t.Helper()
	c := http.Client{Transport: rt}
	for _, r := range []*http.Request{get(t, w.endpoint+"profile"), req} {
		w.writes.Store(0)
		resp, err := c.Do(r)
		if got := status(t, resp, err); got != 200 {
			t.Fatalf("%s: status %d", r.URL, got)
		}
	}
	return w.writes.Load()
}

// closer is a body with a Close of its own, as a file has one.
type closer struct{ io.Reader }

func (closer) Close() error { return nil }

func TestRequestCostsNoMoreWritesThanWithoutTransport(t *testing.T) {
	for _, c := range []struct {
		name          string
		secure, http2 bool
	}{{"HTTP", false, false}, {"HTTPS", true, false}, {"HTTP/2", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, c.secure, c.http2)
			p := newProgramAt(t, w.endpoint)
			for _, r := range requestsToCount() {
				bare := w.count(t, w.base, r.make(t, w.endpoint))
				if ours := w.count(t, &b24oauth.Transport{Source: p.source, Base: w.base, Placement: r.placement}, r.make(t, w.endpoint)); ours > bare {
					t.Errorf("%s: %d writes, and without Transport %d", r.name, ours, bare)
				}
			}
		})
	}
}

// countedRequest is a request that is made anew each time.
type countedRequest struct {
	name      string
	placement b24oauth.Placement
	make      func(t *testing.T, endpoint string) *http.Request
}

func requestsToCount() (all []countedRequest) {
	add := func(name string, placement b24oauth.Placement, make func(t *testing.T, endpoint string) *http.Request) {
		all = append(all, countedRequest{name, placement, make})
	}
	add("GET", b24oauth.PlaceAuto, func(t *testing.T, endpoint string) *http.Request { return get(t, endpoint+"crm.deal.list?start=50") })
	multipart := func(size int) string { return "--x\r\n\r\n" + strings.Repeat("m", size) + "\r\n--x--" }
	for _, size := range []int{0, 1 << 10, 16 << 10, 64<<10 - 100} {
		for _, k := range []struct{ name, method, contentType, body string }{
			{"form", "crm.deal.add", formType, "a=" + strings.Repeat("f", size)},
			{"JSON", "crm.deal.add", jsonType, `{"a":"` + strings.Repeat("j", size) + `"}`},
			{"JSON that is no object", "crm.deal.add", jsonType, `["` + strings.Repeat("a", size) + `"]`},
			{"JSON of version 3", "api/tasks.task.add", jsonType, `{"a":"` + strings.Repeat("3", size) + `"}`},
			{"multipart", "disk.file.upload", "multipart/form-data; boundary=x", multipart(size)},
		} {
			for _, b := range bodiesToCount {
				for _, placement := range []b24oauth.Placement{b24oauth.PlaceAuto, b24oauth.PlaceQuery, b24oauth.PlaceHeader} {
					untouched := k.name[:4] != "form" && k.name != "JSON" || placement != b24oauth.PlaceAuto
					if !b.again && !untouched {
						continue
					}
					add(fmt.Sprintf("%s of %d bytes, %s, placement %d", k.name, len(k.body), b.name, placement), placement, func(t *testing.T, endpoint string) *http.Request {
						req := post(t, endpoint+k.method, k.contentType, nil)
						b.set(req, k.body)
						return req
					})
				}
			}
		}
	}
	return all
}

// bodiesToCount are the ways in which a body of a known length is given.
var bodiesToCount = []struct {
	name  string
	again bool // it has GetBody
	set   func(req *http.Request, body string)
}{
	{"a strings.Reader", true, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(strings.NewReader(body)) })
	}},
	{"a bytes.Reader", true, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(bytes.NewReader([]byte(body))) })
	}},
	{"a bytes.Buffer", true, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(bytes.NewBufferString(body)) })
	}},
	{"a reader of its own", true, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(struct{ io.Reader }{strings.NewReader(body)}) })
	}},
	{"a body with a Close", true, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return closer{strings.NewReader(body)} })
	}},
	{"a strings.Reader without GetBody", false, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(strings.NewReader(body)) })
		req.GetBody = nil
	}},
	{"a bytes.Buffer without GetBody", false, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return io.NopCloser(bytes.NewBufferString(body)) })
		req.GetBody = nil
	}},
	{"a body with a Close and without GetBody", false, func(req *http.Request, body string) {
		setBody(req, body, func() io.ReadCloser { return closer{strings.NewReader(body)} })
		req.GetBody = nil
	}},
}

func setBody(req *http.Request, body string, open func() io.ReadCloser) {
	req.Body, req.ContentLength = open(), int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return open(), nil }
}
