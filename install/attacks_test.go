package install_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/install"
)

// slotStore lets a test act right after a slot was freed.
type slotStore struct {
	b24oauth.Store
	mu    sync.Mutex
	freed func()
}

func (s *slotStore) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	deleted := false
	err := s.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		next, err := fn(ctx, g)
		deleted = err == b24oauth.ErrDelete
		return next, err
	})
	s.mu.Lock()
	then := s.freed
	if deleted {
		s.freed = nil
	}
	s.mu.Unlock()
	if deleted && then != nil {
		then()
	}
	return err
}

// freedSlot is the first slot for a refresh token.
func freedSlot(token string) int {
	sum := sha256.Sum256([]byte(token))
	return int(binary.BigEndian.Uint32(sum[:]) % 64)
}

// taken for that one.
func TestASlotThatWasJustFreedIsProvenForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		s := &slotStore{Store: a.store}
		a.store = s
		a.restart(t)
		forged := *a.Employee()
		forged.AccessToken = "made-up-access-token"
		// All slots but the one that is freed are taken, so that the installation
		// gets that one.
		held := &b24oauth.Grant{AccessToken: "x", RefreshToken: "held", Issued: time.Now()}
		s.freed = func() {
			for slot := range 64 {
				if slot == freedSlot(forged.RefreshToken) {
					continue
				}
				s.Store.Update(context.Background(), pendingKey(a, slot), func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return held, nil })
			}
			if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", a.Install(), nil)); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		a.send(a.EventRequest(handler, "ONAPPINSTALL", &forged, nil))
		time.Sleep(time.Minute)
		if a.stored(t) == nil {
			t.Error("the installation was answered 200 and nobody proves it")
		}
	})
}

// nothing else.
func TestAPanicOfTheProgramsEndsOnlyItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		a.Installed = func(context.Context, string, *b24oauth.AppInfo) error { panic("Installed") }
		a.OnEvent = func(context.Context, *install.Event, install.Sender) { panic("OnEvent") }
		a.send(a.EventRequest(handler, "ONAPPINSTALL", admin, nil))
		settle()
		a.send(a.EventRequest(handler, "ONCRMDEALADD", a.Employee(), nil))
		settle()
		if a.stored(t) == nil || !strings.Contains(a.log.String(), "panicked") {
			t.Errorf("stored %v, log %s", a.stored(t), a.log.String())
		}
		for slot := range 64 {
			if _, err := a.store.Load(t.Context(), pendingKey(a, slot)); err == nil {
				t.Error("it is pending still, and panics again after a restart")
			}
		}
	})
}

// is not.
func TestALargeBodyIsNeitherPageNorInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		g := a.Install()
		page := a.FrameRequest(handler, g)
		page.ContentLength = -1 // chunked
		page.Body = io.NopCloser(io.MultiReader(page.Body, strings.NewReader("&x="+strings.Repeat("x", 100<<10))))
		if w := a.send(page); w.Code != 413 || a.stored(t) != nil {
			t.Errorf("page: %d", w.Code)
		}
		large := *g
		large.Scope = strings.Repeat("x", 900<<10)
		a.Handler.Config.TokenClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errBroken })}
		if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", &large, nil)); w.Code != 413 {
			t.Errorf("ONAPPINSTALL: %d", w.Code)
		}
		for slot := range 64 {
			if g, err := a.store.Load(t.Context(), pendingKey(a, slot)); err == nil {
				t.Errorf("a grant with a scope of %d bytes is kept", len(g.Scope))
			}
		}
	})
}

// Close returns: what is pending could not be exchanged again.
func TestCloseWaitsForThePairThatIsBeingExchanged(t *testing.T) {
	for _, event := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a := newApplication(t)
			asked := make(chan struct{}, 9)
			slow := a.PortalTransport
			a.PortalTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if asked <- struct{}{}; len(asked) > 1 {
					time.Sleep(2 * time.Second)
				}
				return slow.RoundTrip(r)
			})
			ctx, leave := context.WithCancel(t.Context())
			if event {
				a.send(a.EventRequest(handler, "ONAPPINSTALL", a.Install(), nil))
			} else {
				go a.send(a.FrameRequest(handler, a.Install()).WithContext(ctx))
			}
			time.Sleep(time.Second)
			leave()
			if err := a.Handler.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if g, err := a.store.Load(t.Context(), a.key()); err != nil || a.Refreshes() != 1 {
				t.Errorf("event %t: stored %v, %v; %d refreshes", event, g, err, a.Refreshes())
			}
		})
	}
}

// What comes after Close is answered 503, pages too.
func TestAPageAfterCloseIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		if err := a.Handler.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := a.send(a.FrameRequest(handler, a.Install())); w.Code != 503 || a.stored(t) != nil {
			t.Errorf("%d, stored %v", w.Code, a.stored(t))
		}
	})
}

// stored.
func TestAnOldPairOverNothingIsNoInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		if err := a.Handler.Config.Delete(t.Context(), a.key()); err != nil {
			t.Fatal(err)
		}
		a.restart(t)
		a.Installed = func(context.Context, string, *b24oauth.AppInfo) error {
			t.Error("Installed is called, and nothing is stored")
			return nil
		}
		a.Page = func(http.ResponseWriter, *http.Request, *install.Visit) {
			t.Error("the page is shown, and nothing is stored")
		}
		if w := a.send(a.FrameRequest(handler, admin)); w.Code != 403 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		a.send(a.EventRequest(handler, "ONAPPINSTALL", admin, nil))
		settle()
	})
}

// which must not be exchanged a second time for its user's own key.
func TestTheInstallersPairIsNotExchangedForHisOwnKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		a.KeyOfUser = func(clientID, memberID string, user int64) string {
			return fmt.Sprint(install.Key(clientID, memberID), "/", user)
		}
		var visit *install.Visit
		a.Page = func(_ http.ResponseWriter, _ *http.Request, v *install.Visit) { visit = v }
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		visit = nil
		requests := len(a.TokenRequests())
		w := a.send(a.FrameRequest(handler, admin))
		if w.Code != 200 || visit == nil || visit.UserKey != "" || len(a.TokenRequests()) != requests {
			t.Errorf("%d %s; %d token requests more; visit %v", w.Code, w.Body, len(a.TokenRequests())-requests, visit)
		}
		if _, err := a.Handler.Config.TokenSource(a.key()).Renew(t.Context(), nil); err != nil {
			t.Errorf("the portal's grant is dead: %v", err)
		}
	})
}

// has bought.
func TestABrowserThatLeavesLosesNoGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		host, _ := url.Parse(a.URL())
		cookie, state := a.depart(t, a.URL())
		query := url.Values{"code": {a.Code()}, "state": {state}, "domain": {host.Host}}
		ctx, leave := context.WithCancel(t.Context())
		portal := a.PortalTransport
		a.restart(t)
		a.PortalTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
			leave()
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return portal.RoundTrip(r)
		})
		r := httptest.NewRequest("GET", "https://app.example.com/callback?"+query.Encode(), nil).WithContext(ctx)
		r.AddCookie(cookie)
		a.CallbackHandler(func(_ http.ResponseWriter, _ *http.Request, _ string, err error) {
			if err != nil {
				t.Error(err)
			}
		}).ServeHTTP(httptest.NewRecorder(), r)
		if a.stored(t) == nil {
			t.Error("the code is spent, and nothing is stored")
		}
	})
}

// the one that was installed meanwhile.
func TestALateUninstallationLeavesTheNextInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		old, next := a.stored(t), a.Install()
		server := a.Handler.Config.TokenClient.Transport
		a.Handler.Config.TokenClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			if strings.Contains(string(body), old.AccessToken) {
				time.Sleep(3 * time.Second) // the answer is slow
				return &http.Response{StatusCode: 401, Body: io.NopCloser(strings.NewReader(`{"error":"NOT_INSTALLED"}`)), Header: http.Header{}}, nil
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			return server.RoundTrip(r)
		})}
		a.send(a.EventRequest(handler, "ONAPPUNINSTALL", admin, nil))
		settle()
		a.send(a.EventRequest(handler, "ONAPPINSTALL", next, nil))
		settle()
		if a.stored(t).UserID != next.UserID {
			t.Fatal("not installed")
		}
		time.Sleep(time.Minute)
		if g := a.stored(t); g == nil {
			t.Error("the next installation was deleted")
		}
	})
}
