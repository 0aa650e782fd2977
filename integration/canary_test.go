package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/b24go/b24oauth/internal/canary"
)

// codes are the errors of both servers, with what came to them said back.
func codes() []mishap {
	var all []mishap
	for i, code := range []string{
		"expired_token", "invalid_token", "invalid_grant", "NOT_INSTALLED", "wrong_client", "invalid_client", "invalid_request",
		"unsupported_grant_type", "unauthorized_client", "insufficient_scope", "invalid_scope", "PAYMENT_REQUIRED", "VERIFICATION_NEEDED",
		"QUERY_LIMIT_EXCEEDED", "ACCESS_DENIED", "something_new", "{token}", "{refresh}", "{secret}", "{code}", "x {uri}",
	} {
		body := fmt.Sprintf(`{"error":%q,"error_description":"{uri} {token} {refresh} {secret} {code}"}`, code)
		for k, status := range []int{200, 401, 400, 503} {
			if i > 1 && k != i%4 {
				continue
			}
			all = append(all, mishap{name: fmt.Sprintf("it answers %d with the code %s", status, code), serve: says(status, "", body), reached: true})
		}
	}
	return append(all,
		mishap{name: "it cuts its description within a secret", serve: says(401, "", `{"error":"x","error_description":"{near}{secret}{refresh}{code}"}`), reached: true},
		mishap{name: "it answers as version 3", serve: says(401, "", `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"{uri}"}}`), reached: true},
		mishap{name: "it answers in XML", serve: says(401, "Content-Type: text/xml", `<response><error>expired_token</error><error_description>{token}</error_description></response>`), reached: true},
		mishap{name: "it names a portal on plain http", serve: says(200, "", `{"access_token":"a","refresh_token":"r","client_endpoint":"http://{secret}.{code}.{refresh}.example/rest/"}`), reached: true},
		mishap{name: "it names a portal after a secret", serve: says(200, "", `{"access_token":"a","refresh_token":"r","client_endpoint":"http://{near}{secret}{code}/rest/"}`), reached: true},
		mishap{name: "it names no portal", serve: says(200, "", `{"access_token":"a","refresh_token":"r","client_endpoint":"{uri}"}`), reached: true},
		mishap{name: "it names a strange server", serve: says(200, "", `{"access_token":"a","server_endpoint":"https://{secret}/","client_endpoint":"{portal}/rest/"}`), reached: true},
	)
}

// call sends one request of each shape and keeps what comes back.
func (w *world) call(ctx context.Context, client *http.Client, endpoint string) {
	for _, shape := range restRequests {
		req, err := http.NewRequestWithContext(ctx, shape.method, endpoint+shape.path, strings.NewReader(shape.body))
		if err != nil {
			w.t.Error(err)
			return
		}
		if shape.contentType != "" {
			req.Header.Set("Content-Type", shape.contentType)
		}
		w.read(client.Do(req))
	}
}

// read reads a response to its end and collects what it shows.
func (w *world) read(resp *http.Response, err error) {
	w.collect(canary.Error(err))
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	w.collect(canary.Error(err))
	w.collect(canary.Response(resp))
}

func TestCanaryStaysInWhenThePortalFails(t *testing.T) {
	faults := append(append(network, redirects(302, 307)...), codes()...)
	inCrowd(t, faults, func(t *testing.T, f mishap) []*world {
		var all []*world
		var calls sync.WaitGroup
		for _, c := range restClients {
			w := newWorld(t, f, mishap{})
			w.config.Store = nil // in memory
			endpoint := f.url(t, w.portal) + "/rest/"
			w.install(endpoint, true)
			client, more := c.build(w)
			all = append(all, w)
			calls.Go(func() {
				w.call(t.Context(), client, endpoint)
				w.collect(more())
				w.search(c.name)
				if got := w.atPortal.Load() > 0; got != f.reached {
					t.Errorf("%s: a request arrived: %t, want %t", c.name, got, f.reached)
				}
			})
		}
		calls.Wait()
		return all
	})
}

func TestCanaryStaysInWhenTheAuthorizationServerFails(t *testing.T) {
	faults := append(append(network, redirects(302)...), codes()...)
	inCrowd(t, faults, func(t *testing.T, f mishap) []*world {
		var all []*world
		var calls sync.WaitGroup
		for i, c := range tokenClients {
			w := newWorld(t, mishap{}, f)
			w.name = c.name
			c.set(w, w.config)
			if i > 0 {
				w.config.Store = nil // one directory is enough
			}
			w.install(w.portal.URL+"/rest/", false)
			above := restClients[i%len(restClients)]
			client, more := above.build(w)
			all = append(all, w)
			calls.Go(func() {
				w.call(t.Context(), client, w.portal.URL+"/rest/")
				w.collect(more())
				_, err := w.config.TokenSource(canaryKey).TokenContext(t.Context())
				w.collect(canary.Error(err))
			})
			calls.Go(func() {
				g, err := w.config.Exchange(w.traced(t.Context()), w.code, "")
				w.collect(canary.Error(err))
				w.collect(canary.Value("the grant", g))
			})
		}
		calls.Wait()
		for _, w := range all {
			w.search(w.name)
			if got := w.atServer.Load() > 0; got != f.reached {
				t.Errorf("%s: a request arrived: %t, want %t", w.name, got, f.reached)
			}
		}
		return all
	})
}

// A webhook's path is its secret. The caller has it, and so has the portal;
// nobody else must.
func TestCanaryWebhookStaysWithCallerAndPortal(t *testing.T) {
	capture(t) // a client above that logs has the caller's URL
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, c := range restClients {
			if c.name == "a proxy" {
				continue // that is the portal itself, and no stranger hears of it
			}
			w := newWorld(t, mishap{serve: says(status, "Location: {stranger}/plain", "")}, mishap{})
			w.config.Store = nil // in memory
			w.install(w.portal.URL+"/rest/", true)
			client, _ := c.build(w)
			if tr, ok := client.Transport.(traced); ok {
				client.Transport = tr.base // the caller's own trace may hear the caller's own URL
			}
			for _, path := range []string{"/rest/1/", "/rest/api/1/"} {
				resp, err := client.Get(w.portal.URL + path + w.secrets.Plant("webhook path") + "/profile")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			w.search(fmt.Sprint(c.name, " and status ", status))
			if got := len(w.stranger.heard()); got != 2 {
				t.Errorf("%s and status %d: %d requests reached the stranger, want two", c.name, status, got)
			}
		}
	}
}

// inCrowd runs one subtest for each fault, several at a time, and then looks
// at what all of them wrote to stdout and stderr.
func inCrowd(t *testing.T, faults []mishap, run func(t *testing.T, f mishap) []*world) {
	t.Helper()
	var mu sync.Mutex
	var worlds []*world
	output := capture(t)
	t.Run("and", func(t *testing.T) {
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				done := run(t, f)
				mu.Lock()
				defer mu.Unlock()
				worlds = append(worlds, done...)
			})
		}
	})
	written := output()
	for _, w := range worlds {
		w.secrets.Check(t, "afterwards", written)
	}
}
