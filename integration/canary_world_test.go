package integration

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/internal/canary"
	"github.com/b24go/b24oauth/sealedstore"
)

const canaryKey = "portal"

// A world is a program with its portal, its authorization server and a
// stranger, all of whose secrets are canaries.
type world struct {
	secrets              canary.Secrets
	t                    *testing.T
	name                 string // of the client
	portal, server       *httptest.Server
	stranger             *stranger
	atPortal, atServer   atomic.Int64 // requests that arrived
	config               *b24oauth.Config
	dir                  string
	secret, code         string
	refresh, application string
	log                  buffer

	mu           sync.Mutex // guards what follows
	accessTokens []string   // the first grant's and those of renewals
	seen         []canary.Output
}

// A mishap is what goes wrong at one of the two servers.
type mishap struct {
	name    string
	serve   func(w *world, rw http.ResponseWriter, r *http.Request) // nil: all is well
	address func(t *testing.T, s *httptest.Server) string           // nil: the server's own
	reached bool                                                    // whether a request arrives
}

// newWorld makes one in which a fault is at the portal, at the authorization
// server, or at neither.
func newWorld(t *testing.T, atPortal, atServer mishap) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), stranger: newStranger(t)}
	w.secret, w.refresh = w.secrets.Plant("client_secret"), w.secrets.Plant("refresh token")
	w.code, w.application = w.secrets.Plant("code"), w.secrets.Plant("application_token")
	serve := func(f mishap, count *atomic.Int64, well http.HandlerFunc) *httptest.Server {
		return serverWithoutLog(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect { // which a proxy is asked before the request
				count.Add(1)
			}
			if f.serve != nil {
				f.serve(w, rw, r)
				return
			}
			well(rw, r)
		}))
	}
	w.portal = serve(atPortal, &w.atPortal, func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(`{"result":1}`)) })
	w.server = serve(atServer, &w.atServer, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.pair(w.portal.URL + "/rest/")) })
	w.config = &b24oauth.Config{
		ClientID: "local.app", ClientSecret: w.secret,
		TokenURL:       atServer.url(t, w.server) + "/oauth/token/",
		RefreshTimeout: time.Second,
		Store:          w.sealed(),
		Logger:         slogTo(&w.log),
		OnEvent:        func(_ context.Context, e b24oauth.Event) { w.collect(ofEvent(e)) },
	}
	return w
}

func (f mishap) url(t *testing.T, s *httptest.Server) string {
	if f.address == nil {
		return s.URL
	}
	return f.address(t, s)
}

// sealed is a directory whose grants are encrypted.
func (w *world) sealed() b24oauth.Store {
	w.t.Helper()
	dir, err := filestore.Open(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		w.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		w.t.Fatal(err)
	}
	return sealedstore.New(dir, aead)
}

// install stores the first grant, fresh or due for a renewal.
func (w *world) install(endpoint string, fresh bool) {
	w.t.Helper()
	expiry := time.Now().Add(-time.Minute)
	if fresh {
		expiry = expiry.Add(time.Hour)
	}
	g := &b24oauth.Grant{
		ClientEndpoint: endpoint, MemberID: "member",
		AccessToken: w.accessToken("access token"), RefreshToken: w.refresh, ApplicationToken: w.application,
		Issued: expiry.Add(-time.Hour), Expiry: expiry,
	}
	if err := w.config.Save(w.t.Context(), canaryKey, g); err != nil {
		w.t.Fatal(err)
	}
}

// accessToken plants one that the servers can say back.
func (w *world) accessToken(what string) string {
	token := w.secrets.Plant(what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accessTokens = append(w.accessTokens, token)
	return token
}

// pair is a token answer with new secrets.
func (w *world) pair(endpoint string) []byte {
	b, err := json.Marshal(map[string]any{
		"access_token": w.accessToken("new access token"), "refresh_token": w.secrets.Plant("new refresh token"),
		"expires_in": 3600, "client_endpoint": endpoint, "member_id": "member",
	})
	if err != nil {
		panic(err)
	}
	return b
}

// collect keeps what came out.
func (w *world) collect(all []canary.Output) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, all...)
}

// search looks for secrets in everything that came out.
func (w *world) search(scenario string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.collect(canary.Error(w.config.Flush(ctx)))
	for name, v := range map[string]any{
		"the Config": w.config, "the TokenSource": w.config.TokenSource(canaryKey),
		"the Transport": &b24oauth.Transport{Source: w.config.TokenSource(canaryKey)},
	} {
		w.collect(canary.Value(name, v))
	}
	w.mu.Lock()
	all := append(slices.Clone(w.seen), canary.Output{Place: "the log", Text: w.log.String()})
	w.mu.Unlock()
	all = append(all, w.stranger.heard()...)
	all = append(all, ofFiles(w.t, w.dir)...)
	w.secrets.Check(w.t, scenario, all)
}
