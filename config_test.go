package b24oauth_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sealedstore"
)

func TestCredentialsComeFromTheEnvironment(t *testing.T) {
	tests := []struct{ id, secret, missing string }{
		{"app.1", "s", ""},
		{"", "s", "set BITRIX24_CLIENT_ID to"},
		{"app.1", "", "set BITRIX24_CLIENT_SECRET to"},
		{"", "", "set BITRIX24_CLIENT_ID and BITRIX24_CLIENT_SECRET to"},
	}
	for _, test := range tests {
		t.Setenv("BITRIX24_CLIENT_ID", test.id)
		t.Setenv("BITRIX24_CLIENT_SECRET", test.secret)
		c, err := b24oauth.ConfigFromEnv()
		if test.missing == "" {
			if err != nil || c.ClientID != test.id || c.ClientSecret != test.secret {
				t.Errorf("%v, error %v", c, err)
			}
			continue
		}
		if c != nil || !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), test.missing) {
			t.Errorf("error %v; want one that says %q", err, test.missing)
		}
	}
}

func TestMistakeInTheConfigIsFoundBeforeAnyRequest(t *testing.T) {
	tests := []struct {
		name   string
		change func(*b24oauth.Config)
		text   string
	}{
		{"no client id", func(c *b24oauth.Config) { c.ClientID = "" }, "Config.ClientID is empty"},
		{"no client secret", func(c *b24oauth.Config) { c.ClientSecret = "" }, "Config.ClientSecret is empty"},
		{"an unknown method", func(c *b24oauth.Config) { c.TokenMethod = "PUT" }, `Config.TokenMethod is "PUT"`},
		{"a method in lower case", func(c *b24oauth.Config) { c.TokenMethod = "post" }, `must be GET, POST or empty`},
		{"a negative early expiry", func(c *b24oauth.Config) { c.EarlyExpiry = -1 }, "must not be negative"},
		{"a negative timeout", func(c *b24oauth.Config) { c.RefreshTimeout = -1 }, "must not be negative"},
		{"a token URL over http", func(c *b24oauth.Config) { c.TokenURL = "http://oauth.bitrix.info/oauth/token/" }, "Config.TokenURL must be an https URL"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv, n := counted(answers(200, fixture(t, "token-exchange.json")))
			store := new(b24oauth.MemoryStore)
			c := endpointConfig(srv, test.change, func(c *b24oauth.Config) { c.Store = store })
			errs := map[string]error{"Save": c.Save(t.Context(), key, spent())}
			if _, err := store.Load(t.Context(), key); !errors.Is(err, b24oauth.ErrNoGrant) {
				t.Error("Save stored the grant all the same")
			}
			storeDirectly(t, store, key, spent())
			_, errs["Exchange"] = c.Exchange(t.Context(), "the-code", "")
			_, errs["Token"] = c.TokenSource(key).Token()
			_, errs["Grant"] = c.TokenSource(key).Grant(t.Context())
			_, errs["Client"] = c.Client(key).Get("https://portal.bitrix24.com/rest/profile")
			for what, err := range errs {
				var te *b24oauth.TokenError
				if !errors.As(err, &te) || !te.Permanent() || !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), test.text) {
					t.Errorf("%s: error %v; want a permanent one that says %q", what, err, test.text)
				}
			}
			if n.Load() != 0 {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
}

func TestSaveRefusesWhatWouldLoseAGrant(t *testing.T) {
	with := func(change func(*b24oauth.Grant)) *b24oauth.Grant {
		g := spent()
		g.AccessToken, g.RefreshToken = "saved-access", "saved-refresh"
		change(g)
		return g
	}
	tests := []struct {
		name, key string
		grant     *b24oauth.Grant
		kind      error
		text      string
	}{
		{"no grant", key, nil, b24oauth.ErrMisconfigured, "without tokens"},
		{"no tokens", key, &b24oauth.Grant{MemberID: "member"}, b24oauth.ErrMisconfigured, "without tokens"},
		{"no key", "", with(func(*b24oauth.Grant) {}), b24oauth.ErrMisconfigured, "key is empty"},
		{"another application's", key, with(func(g *b24oauth.Grant) { g.ClientID = "app.2" }), b24oauth.ErrMisconfigured, `belongs to the application "app.2" and Config.ClientID is "app.1"`},
		{"no refresh token over one", key, with(func(g *b24oauth.Grant) { g.RefreshToken = "" }), b24oauth.ErrMisconfigured, "has no refresh token"},
		{"no portal", key, with(func(g *b24oauth.Grant) { g.ClientEndpoint = "" }), b24oauth.ErrMisconfigured, "names no portal"},
		{"a portal without https", key, with(func(g *b24oauth.Grant) { g.ClientEndpoint = "http://portal.bitrix24.com/rest/" }), b24oauth.ErrMisconfigured, "not https"},
		{"a portal that is a host", key, with(func(g *b24oauth.Grant) { g.ClientEndpoint = "portal.bitrix24.com" }), b24oauth.ErrMisconfigured, "names no portal"},
		{"a portal without a path", key, with(func(g *b24oauth.Grant) { g.ClientEndpoint = "https://portal.bitrix24.com/" }), b24oauth.ErrMisconfigured, "no path"},
		{"a portal with user info", key, with(func(g *b24oauth.Grant) { g.ClientEndpoint = "https://a@portal.bitrix24.com/rest/" }), b24oauth.ErrMisconfigured, "user info"},
		{"a bad portal and no access token", key, with(func(g *b24oauth.Grant) { g.AccessToken, g.ClientEndpoint = "", "x" }), b24oauth.ErrMisconfigured, "names no portal"},
		{"an unknown server", key, with(func(g *b24oauth.Grant) { g.ServerEndpoint = "https://evil.example/rest/" }), b24oauth.ErrMisconfigured, `"evil.example" is none of Bitrix24's`},
		{"an unknown server with a long name", key, with(func(g *b24oauth.Grant) { g.ServerEndpoint = "https://" + strings.Repeat("x", 9999) + "/rest/" }), b24oauth.ErrMisconfigured, "xxx…"},
		{"another portal's", key, with(func(g *b24oauth.Grant) { g.MemberID = "another" }), b24oauth.ErrMisconfigured, "Config.Delete"},
		{"a grant that was exchanged already", key, spent(), b24oauth.ErrOutdated, "nothing has to be done"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(answers(200, `{"access_token":"new-access","refresh_token":"new-refresh"}`))
			before, err := renewed(t, c, spent())
			if err != nil {
				t.Fatal(err)
			}
			err = c.Save(t.Context(), test.key, test.grant)
			var te *b24oauth.TokenError
			if !errors.As(err, &te) || !errors.Is(err, test.kind) || !te.Permanent() || !strings.Contains(err.Error(), test.text) || len(err.Error()) > 600 {
				t.Errorf("error %v; want one that says %q", err, test.text)
			}
			after, err := c.TokenSource(key).Grant(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the stored grant was touched (-before +after):\n%s", diff)
			}
		})
	}
}

// An application that was deleted in Bitrix24 and added anew has a new client id,
// and its key must not be lost to it for that.
func TestAnotherApplicationsGrantIsReplacedOnPurposeAlone(t *testing.T) {
	foreign := spent()
	foreign.ClientID, foreign.AccessToken, foreign.RefreshToken = "app.0", "foreign-access", "foreign-refresh"
	for _, c := range []struct {
		name   string
		former []string
		delete bool
		kind   error // of a use before Save
		saves  bool
	}{
		{"without a word", nil, false, b24oauth.ErrMisconfigured, false},
		{"other former ones", []string{"app.2"}, false, b24oauth.ErrMisconfigured, false},
		{"a former one", []string{"app.2", "app.0"}, false, b24oauth.ErrReauthorize, true},
		{"after Delete", nil, true, b24oauth.ErrNoGrant, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := new(b24oauth.MemoryStore)
			storeDirectly(t, store, key, foreign)
			config := endpointConfig(nil, func(config *b24oauth.Config) { config.Store, config.FormerClientIDs = store, c.former })
			if c.delete {
				if err := config.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			te := wantFailure(t, config.TokenSource(key), c.kind, time.Minute)
			if !c.delete && (!strings.Contains(te.Error(), `"app.0"`) || !strings.Contains(te.Error(), `"app.1"`) || te.Key != key) {
				t.Errorf("%v does not name both applications and the grant", te)
			}
			if _, err := config.TokenSource(key).Grant(t.Context()); !errors.Is(err, c.kind) {
				t.Errorf("Grant = %v, want %v", err, c.kind)
			}
			err := config.Save(t.Context(), key, spent())
			got, lerr := store.Load(t.Context(), key)
			if lerr != nil {
				t.Fatal(lerr)
			}
			if !c.saves {
				if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Config.Delete") || !strings.Contains(err.Error(), "FormerClientIDs") {
					t.Errorf("Save = %v; want an error that says what to do", err)
				}
				if diff := cmp.Diff(foreign, got); diff != "" {
					t.Errorf("the stored grant was touched (-before +after):\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(spent().RefreshToken, got.RefreshToken); diff != "" || got.ClientID != "app.1" || !foreign.OlderThan(got) {
				t.Errorf("stored %v, lineage %+v", got, got.Lineage)
			}
			if _, err := config.TokenSource(key).Endpoint(t.Context()); err != nil {
				t.Errorf("after Save: %v", err)
			}
		})
	}
}

// A grant of one's own that works is not given up because another application
// writes under its key.
func TestAnotherApplicationsGrantOverOnesOwnIsNotAdopted(t *testing.T) {
	p := newProgram(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
	own := token(t, p.source)
	foreign := stored(t, p)
	foreign.ClientID, foreign.RefreshToken, foreign.Lineage = "app.0", "foreign-refresh", b24oauth.Lineage{}
	storeDirectly(t, p.config.Store, key, foreign)
	if err := p.config.Save(t.Context(), key, p.Install()); !errors.Is(err, b24oauth.ErrMisconfigured) {
		t.Errorf("Save = %v", err)
	}
	if got := token(t, p.source); got != own {
		t.Error("the token that worked is gone")
	}
}

func TestSaveOverAnotherPortalsGrantNamesBoth(t *testing.T) {
	for name, c := range map[string]struct {
		stored, saved string // member_id
		host          string
		refused       bool
	}{
		"other member_ids":                  {"member", "another", "portal.bitrix24.com", true},
		"one member_id at another address":  {"member", "member", "other.bitrix24.com", false},
		"the new one unknown, elsewhere":    {"member", "", "other.bitrix24.com", true},
		"the stored one unknown, elsewhere": {"", "member", "other.bitrix24.com", true},
		"both unknown, elsewhere":           {"", "", "other.bitrix24.com", true},
		"the new one unknown, there":        {"member", "", "PORTAL.bitrix24.com:443", false},
		"the stored one unknown, there":     {"", "member", "portal.bitrix24.com", false},
		"the new one unknown, formerly":     {"member", "", "first.bitrix24.com", false},
		"both unknown, at the same address": {"", "", "portal.bitrix24.com", false},
	} {
		config := endpointConfig(nil)
		was, g := spent(), spent()
		was.MemberID, g.MemberID = c.stored, c.saved
		g.AccessToken, g.RefreshToken, g.ClientEndpoint, g.FormerHosts = "new-access", "new-refresh", "https://"+c.host+"/rest/", nil
		if err := config.Save(t.Context(), key, was); err != nil {
			t.Fatal(err)
		}
		err := config.Save(t.Context(), key, g)
		if !c.refused {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		names := []string{"portal.bitrix24.com", c.host}
		if c.stored != "" && c.saved != "" {
			names = []string{c.stored, c.saved}
		}
		for _, want := range append(names, "Config.Delete") {
			if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it refused, and %s", name, err, want)
			}
		}
		if err := config.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := config.Save(t.Context(), key, g); err != nil {
			t.Errorf("%s, after Delete: %v", name, err)
		}
	}
}

func TestSaveKeepsWhatTheSamePortalsGrantKnew(t *testing.T) {
	bare := &b24oauth.Grant{
		MemberID: "member", ClientEndpoint: "HTTPS://New.Bitrix24.com/rest", AccessToken: "new-access", RefreshToken: "new-refresh",
		Issued: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Expiry: time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC),
	}
	same := spent()
	same.AccessToken, same.RefreshToken, same.Issued, same.Expiry = bare.AccessToken, bare.RefreshToken, bare.Issued, bare.Expiry
	same.UserID, same.Scope, same.Status = 0, "", ""                              // another user's may have come
	same.ClientEndpoint, same.FormerHosts = "https://new.bitrix24.com/rest/", nil // a rename is the server's to tell
	newer := *same
	newer.ApplicationToken = "new-application-token"
	moved := *same
	moved.FormerHosts = []string{"second.bitrix24.com"}
	second := *same
	second.UserID, second.Scope, second.Status = 8, "user", "T"
	again := *spent()
	again.Issued, again.Expiry, again.ClientEndpoint, again.FormerHosts = bare.Issued, bare.Expiry, same.ClientEndpoint, nil
	stayed := *same
	stayed.ClientEndpoint, stayed.FormerHosts = "https://portal.bitrix24.com/rest/", []string{"first.bitrix24.com"}

	tests := []struct {
		name   string
		change func(*b24oauth.Grant)
		want   *b24oauth.Grant
	}{
		{"the same portal", func(*b24oauth.Grant) {}, same},
		{"the same portal with a new application token", func(g *b24oauth.Grant) { g.ApplicationToken = "new-application-token" }, &newer},
		{"the same portal with a former address of its own", func(g *b24oauth.Grant) { g.FormerHosts = []string{"second.bitrix24.com"} }, &moved},
		{"another user of the same portal", func(g *b24oauth.Grant) { g.UserID, g.Scope, g.Status = 8, "user", "T" }, &second},
		{"the very pair", func(g *b24oauth.Grant) { g.AccessToken, g.RefreshToken = spent().AccessToken, spent().RefreshToken }, &again},
		{"the same portal at the same address", func(g *b24oauth.Grant) { g.ClientEndpoint = "https://PORTAL.bitrix24.com:443/rest" }, &stayed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := endpointConfig(nil)
			if err := c.Save(t.Context(), key, spent()); err != nil {
				t.Fatal(err)
			}
			g := *bare
			test.change(&g)
			given := g
			if err := c.Save(t.Context(), key, &g); err != nil {
				t.Fatal(err)
			}
			got, err := c.TokenSource(key).Grant(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, butForItsVerdict); diff != "" {
				t.Errorf("stored grant (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(given, g); diff != "" {
				t.Errorf("Save changed the caller's grant (-before +after):\n%s", diff)
			}
		})
	}
}

func TestFlushWithNothingToSaveIsDone(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	c := endpointConfig(answers(200, `{"access_token":"new-access","refresh_token":"new-refresh"}`))
	for _, ctx := range []context.Context{context.Background(), ended} {
		if err := c.Flush(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, err := renewed(t, c, spent()); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	if err := c.Flush(ended); err != nil {
		t.Error("a saved pair is reported as unsaved:", err)
	}
}

func TestFlushWaitsForARenewalInFlightAsLongAsItsContextLets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
			<-time.After(5 * time.Second)
			return answers(200, `{"access_token":"new-access","refresh_token":"new-refresh"}`)(req)
		}))
		if err := c.Save(t.Context(), key, spent()); err != nil {
			t.Fatal(err)
		}
		go c.TokenSource(key).Token()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `grant "portal"`) {
			t.Errorf("error %v; want one that names the grant", err)
		}
		start := time.Now()
		if err := c.Flush(t.Context()); err != nil || time.Since(start) != 4*time.Second {
			t.Errorf("Flush returned %v after %v, want it to wait the 4s that are left", err, time.Since(start))
		}
		if g, err := c.TokenSource(key).Grant(t.Context()); err != nil || g.RefreshToken != "new-refresh" {
			t.Errorf("stored %v, error %v", g, err)
		}
	})
}

// downFor is a Store that takes nothing under some keys, as long as it is down.
type downFor struct {
	b24oauth.MemoryStore
	down  atomic.Bool
	keys  map[string]bool
	saved sync.Map // key to when its grant was last taken
}

func (d *downFor) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	return d.MemoryStore.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		g, err := fn(ctx, g)
		if err == nil && g != nil && d.keys[key] && d.down.Load() {
			return nil, errDown
		}
		d.saved.Store(key, time.Now())
		return g, err
	})
}

func TestFlushSavesAllUnsavedPairsAtOnceAndWaitsForExchangesBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &downFor{keys: make(map[string]bool)}
		c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
			refresh := req.URL.Query().Get("refresh_token")
			if strings.HasPrefix(refresh, "slow") {
				<-time.After(10 * time.Second)
			}
			return answers(200, `{"access_token":"new `+refresh+`","refresh_token":"new `+refresh+`"}`)(req)
		}), func(c *b24oauth.Config) { c.Store = store })
		save := func(key string) {
			g := spent()
			g.RefreshToken = key
			if err := c.Save(t.Context(), key, g); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 40 {
			key := fmt.Sprint("unsaved ", i)
			store.keys[key] = true
			save(key)
		}
		store.down.Store(true)
		for key := range store.keys {
			if _, err := c.TokenSource(key).Token(); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute) // until the jobs have given up saving
		for i := range 20 {
			key := fmt.Sprint("slow ", i)
			save(key)
			go c.TokenSource(key).Token()
		}
		synctest.Wait()
		store.down.Store(false)

		start := time.Now()
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("Flush took %v; want the 10s of the exchanges, all at a time", took)
		}
		for key := range store.keys {
			if at, ok := store.saved.Load(key); !ok || at.(time.Time).Sub(start) != 0 {
				t.Errorf("%s was saved after %v; want at once", key, at.(time.Time).Sub(start))
			}
		}
	})
}

func TestClientWithTheZeroStoreCarriesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		resp, err := p.client.Get(p.Endpoint() + "profile")
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d", got)
		}
		transport, ok := p.config.Client(key).Transport.(*b24oauth.Transport)
		if !ok || transport.Source != p.source || transport.Base != nil {
			t.Errorf("Config.Client has %v, want a Transport of the shared source over http.DefaultTransport", transport)
		}
	})
}

// givingBack is a Store that goes on after Update has returned.
type givingBack struct {
	b24oauth.MemoryStore
	err error
}

func (g *givingBack) Flush(context.Context) error { return g.err }

func TestFlushWaitsForAStoreThatGoesOnAfterUpdate(t *testing.T) {
	store := &givingBack{err: errDown}
	for name, s := range map[string]b24oauth.Store{"the Store": store, "one beneath sealedstore": sealedstore.New(store, aead(t))} {
		c := endpointConfig(nil, func(c *b24oauth.Config) { c.Store = s })
		store.err = errDown
		if err := c.Flush(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("%s: error %v, want the Store's", name, err)
		}
		store.err = nil
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := endpointConfig(nil, func(c *b24oauth.Config) { c.Store = sealedstore.New(new(b24oauth.MemoryStore), aead(t)) }).Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func aead(t *testing.T) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealing, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealing
}

func TestPathOfAPortalThatHasMovedItsMethodsOutlivesAnInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(nil)
		for i, endpoint := range []string{"https://portal.bitrix24.com/crm/rest/", "https://portal.bitrix24.com/rest/"} {
			g := spent()
			g.ClientEndpoint, g.RefreshToken = endpoint, fmt.Sprint("refresh ", i)
			if err := c.Save(t.Context(), key, g); err != nil {
				t.Fatal(err)
			}
		}
		if u, err := c.TokenSource(key).Endpoint(t.Context()); err != nil || u.Path != "/crm/rest/" {
			t.Errorf("Endpoint %v, error %v", u, err)
		}
	})
}
