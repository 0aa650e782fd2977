package integration

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func closed(_ *testing.T, s *httptest.Server) string {
	s.Close()
	return s.URL
}

func notTLS(_ *testing.T, s *httptest.Server) string {
	return strings.Replace(s.URL, "http://", "https://", 1)
}

// untrusted is TLS with a certificate that nobody vouches for, on the way to
// the same server.
func untrusted(t *testing.T, s *httptest.Server) string {
	over := httptest.NewUnstartedServer(s.Config.Handler)
	over.Config.ErrorLog = s.Config.ErrorLog
	over.StartTLS()
	t.Cleanup(over.Close)
	return over.URL
}

// says answers with a status, a header line and a body, in which {…} stand
// for secrets and addresses.
func says(status int, header, body string) func(*world, http.ResponseWriter, *http.Request) {
	return func(w *world, rw http.ResponseWriter, r *http.Request) {
		fill := w.filler(r)
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			rw.Header().Set("Retry-After", "1") // no second try, which takes its time
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			rw.Header().Set(name, fill.Replace(value))
		}
		rw.WriteHeader(status)
		rw.Write([]byte(fill.Replace(body)))
	}
}

// speaks answers with bytes that need not be HTTP, and hangs up.
func speaks(text string) func(*world, http.ResponseWriter, *http.Request) {
	return func(w *world, rw http.ResponseWriter, r *http.Request) {
		hangUp(rw, w.filler(r).Replace(text))
	}
}

func hangUp(rw http.ResponseWriter, text string) {
	hijacker, ok := rw.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler) // HTTP/2, where text cannot come as it likes
	}
	conn, rest, err := hijacker.Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	out := bufio.NewWriter(conn)
	out.WriteString(text)
	out.Flush()
	rest.Reader.Discard(rest.Reader.Buffered())
}

// filler fills in what the request brought, secrets included.
func (w *world) filler(r *http.Request) *strings.Replacer {
	whole, err := httputil.DumpRequest(r, true)
	if err != nil {
		whole = []byte(err.Error())
	}
	uri := r.URL.RequestURI() // without the host, which a proxy needs
	if !strings.Contains(uri, "?") {
		uri += "?" + url.Values{"auth": {w.presented(string(whole))}}.Encode()
	}
	brought := func(secret string) string {
		if strings.Contains(string(whole), secret) {
			return secret
		}
		return "none"
	}
	return strings.NewReplacer(
		"{whole}", string(whole), "{line}", r.Method+" "+uri+" "+r.Proto, "{uri}", uri, "{query}", uri[strings.Index(uri, "?")+1:],
		"{secret}", brought(w.secret), "{refresh}", brought(w.refresh), "{code}", brought(w.code), "{token}", w.presented(string(whole)),
		"{stranger}", w.stranger.URL, "{portal}", w.portal.URL, "{server}", w.server.URL, "{filler}", strings.Repeat("filler ", 300<<10),
		"{near}", strings.Repeat("x", 185),
	)
}

// presented is the token or code that a request came with.
func (w *world) presented(request string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range append(slices.Clone(w.accessTokens), w.refresh, w.code) {
		if strings.Contains(request, secret) {
			return secret
		}
	}
	return "none"
}

// network are the faults that any server may have.
var network = []mishap{
	{name: "nobody listens", address: closed},
	{name: "it speaks no TLS", address: notTLS},
	{name: "its certificate is unknown", address: untrusted},
	{name: "it hangs up without an answer", serve: speaks(""), reached: true},
	{name: "it hangs up in the header", serve: speaks("HTTP/1.1 200 OK\r\nX-Header: {token}"), reached: true},
	{name: "it hangs up in the body", serve: speaks("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"{token}"), reached: true},
	{name: "it hangs up in a chunk", serve: speaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n"), reached: true},
	{name: "it sends the request back", serve: speaks("{whole}"), reached: true},
	{name: "it sends the request back as its status", serve: speaks("HTTP/1.1 {line}\r\n\r\n"), reached: true},
	{name: "it sends the request back as its version", serve: speaks("HTTP/{token} 200 OK\r\n\r\n"), reached: true},
	{name: "it sends the request back as a header", serve: speaks("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"), reached: true},
	{name: "it sends the request back as its length", serve: speaks("HTTP/1.1 200 OK\r\nContent-Length: {uri}\r\n\r\n"), reached: true},
	{name: "it sends the request back as its encoding", serve: speaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: {token}\r\n\r\n"), reached: true},
	{name: "it announces gzip and sends text", serve: says(200, "Content-Encoding: gzip", "{token}"), reached: true},
	{name: "its answer is HTML", serve: says(200, "Content-Type: text/html", "<html>{uri}</html>"), reached: true},
	{name: "its error is HTML", serve: says(502, "Content-Type: text/html", "<html>{uri}</html>"), reached: true},
	{name: "its answer is empty", serve: says(200, "", ""), reached: true},
	{name: "its answer is broken JSON", serve: says(200, "", `{"access_token":{"{uri}`), reached: true},
	{name: "its answer is huge", serve: says(200, "", "{filler}{uri}"), reached: true},
	{name: "its error is huge", serve: says(400, "", "{filler}{uri}"), reached: true},
}

// redirects are the ways to send a request elsewhere, all of them with the
// statuses given and one with each other.
func redirects(statuses ...int) []mishap {
	var all []mishap
	for _, status := range []int{301, 302, 303, 307, 308} {
		for i, to := range []string{
			"{stranger}{uri}", "{stranger}/path/{token}", "{stranger}/?back=%2Frest%2Fm%3Fauth%3D{token}#{token}", "http://{token}@{stranger}/",
			"http://{token}.localhost:1/", "{portal}{uri}", "{portal}/elsewhere?{query}", "{server}{uri}", "ftp://{token}/{uri}",
			"http://[::1?{query}", "http://127.0.0.1:port/{uri}", "/%zz?{query}", "?{query}", "://{token}", "{token}", "",
		} {
			if i > 0 && !slices.Contains(statuses, status) {
				break
			}
			to = strings.ReplaceAll(to, "@{stranger}", "@localhost:1")
			all = append(all, mishap{name: fmt.Sprintf("it answers %d with Location %q", status, to), serve: says(status, "Location: "+to, "<a href='{uri}'>"), reached: true})
		}
	}
	return all
}
