package install_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/install"
	"github.com/b24go/b24oauth/internal/canary"
	"github.com/b24go/b24oauth/internal/racetest"
	"github.com/b24go/b24oauth/internal/reserved"
)

// An application under test, on the servers of b24test.
type application struct {
	*b24test.Server
	*install.Handler
	store  b24oauth.Store
	member string

	mu  sync.Mutex // guards log
	log strings.Builder
}

func (a *application) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

func newApplication(t testing.TB) *application {
	t.Helper()
	a := &application{Server: newServer(t), store: new(b24oauth.MemoryStore)}
	a.member = a.Install().MemberID
	a.restart(t)
	return a
}

// restart makes the Handler anew, as a new process does.
func (a *application) restart(t testing.TB) {
	t.Helper()
	config := a.Config()
	config.Store = a.store
	config.Logger = slog.New(slog.NewTextHandler(a, nil))
	a.Handler = &install.Handler{Config: config, AllowPrivate: true, PortalTransport: a.Client().Transport}
	h := a.Handler
	t.Cleanup(func() { h.Close(context.Background()) })
}

// Config is the Server's: both have one.
func (a *application) Config() *b24oauth.Config { return a.Server.Config() }

func (a *application) key() string {
	return install.Key(a.ClientID(), a.member)
}

// stored returns the portal's grant, nil if there is none.
func (a *application) stored(t testing.TB) *b24oauth.Grant {
	t.Helper()
	g, err := a.Handler.Config.TokenSource(a.key()).Grant(context.Background())
	if err != nil && !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Fatal(err)
	}
	return g
}

// send serves a request.
func (a *application) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// settle waits, in a bubble, until nothing is worked on.
func settle() {
	synctest.Wait()
}

func TestAnInstallationIsProvenAndStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		var bound []string
		a.Installed = func(_ context.Context, key string, info *b24oauth.AppInfo) error {
			bound = append(bound, key+" "+info.MemberID)
			return nil
		}
		a.SetInstalled(false)
		admin := a.Install()
		w := a.send(a.FrameRequest(handler, admin))
		if w.Code != 200 || !strings.Contains(w.Body.String(), "BX24.installFinish()") || !strings.Contains(w.Body.String(), `src="https://api.bitrix24.com/api/v1/"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		portal, _ := url.Parse(admin.ClientEndpoint)
		if got := w.Header().Get("Content-Security-Policy"); got != "frame-ancestors 'self' http://"+portal.Host || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Frame-Options") != "" || len(w.Result().Cookies()) > 0 {
			t.Errorf("header %v", w.Header())
		}
		g := a.stored(t)
		if g == nil || g.RefreshToken == admin.RefreshToken || g.UserID != admin.UserID || g.ApplicationToken != admin.ApplicationToken || g.Lineage.Generation != 1 {
			t.Errorf("stored %+v", g)
		}
		if len(bound) != 1 || bound[0] != a.key()+" "+admin.MemberID {
			t.Errorf("Installed was called for %q", bound)
		}

		// The installer's own POST again, a thousand times: no exchange.
		for range 1000 {
			if w := a.send(a.FrameRequest(handler, admin)); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		// A page that is merely opened, by whomever, replaces and exchanges nothing.
		a.SetInstalled(true)
		var visit *install.Visit
		a.Page = func(_ http.ResponseWriter, _ *http.Request, v *install.Visit) { visit = v }
		for _, user := range []*b24oauth.Grant{a.Employee(), a.Install()} {
			if w := a.send(a.FrameRequest(handler, user)); w.Code != 200 || visit == nil || visit.UserID != user.UserID || visit.Key != a.key() || visit.Placement != "DEFAULT" {
				t.Errorf("%d %s; %v", w.Code, w.Body, visit)
			}
		}
		if a.Refreshes() != 1 || a.stored(t).RefreshToken != g.RefreshToken {
			t.Errorf("%d refreshes; the stored grant is the same: %t", a.Refreshes(), a.stored(t).RefreshToken == g.RefreshToken)
		}
	})
}

func TestADeadGrantIsReplacedByWhoMayInstall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		if w := a.send(a.FrameRequest(handler, a.Employee())); w.Code != 403 || !strings.Contains(w.Body.String(), "administrator") || a.stored(t) != nil {
			t.Errorf("an employee, before the installation: %d %s", w.Code, w.Body)
		}
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		a.KillGrants()
		if _, err := a.Handler.Config.TokenSource(a.key()).Renew(t.Context(), nil); !errors.Is(err, b24oauth.ErrReauthorize) {
			t.Fatal(err)
		}
		dead := a.stored(t)
		if w := a.send(a.FrameRequest(handler, a.Employee())); w.Code != 403 || a.stored(t).RefreshToken != dead.RefreshToken {
			t.Errorf("an employee, over a dead grant: %d", w.Code)
		}
		if w := a.send(a.FrameRequest(handler, a.Install())); w.Code != 200 || a.stored(t).RefreshToken == dead.RefreshToken || a.stored(t).Refused.Code != "" {
			t.Errorf("an administrator, over a dead grant: %d %v", w.Code, a.stored(t))
		}
	})
}

// forgeries are requests of a user of the portal, or of a stranger, who knows his
// own tokens, the application token, and what he finds.
func forgeries(a *application, victim *b24oauth.Grant) map[string]*b24oauth.Grant {
	attacker, other := a.Employee(), a.AnotherPortals()
	with := func(change func(g *b24oauth.Grant)) *b24oauth.Grant {
		g := *attacker
		change(&g)
		return &g
	}
	return map[string]*b24oauth.Grant{
		"an employee's own pair":               attacker,
		"a made-up access token":               with(func(g *b24oauth.Grant) { g.AccessToken = "made-up-access-token" }),
		"a made-up refresh token":              with(func(g *b24oauth.Grant) { g.RefreshToken = "made-up-refresh-token" }),
		"another portal's pair under this one": with(func(g *b24oauth.Grant) { g.AccessToken, g.RefreshToken = other.AccessToken, other.RefreshToken }),
		"another portal's access token":        with(func(g *b24oauth.Grant) { g.AccessToken = other.AccessToken }),
		"another portal's refresh token":       with(func(g *b24oauth.Grant) { g.AccessToken, g.RefreshToken = a.Install().AccessToken, other.RefreshToken }),
		"another user's refresh token": with(func(g *b24oauth.Grant) {
			g.AccessToken, g.RefreshToken = a.Install().AccessToken, a.Employee().RefreshToken
		}),
		"another portal's member_id": with(func(g *b24oauth.Grant) { g.MemberID = other.MemberID }),
		"no member_id":               with(func(g *b24oauth.Grant) { g.MemberID = "" }),
		"another portal's address":   with(func(g *b24oauth.Grant) { g.ClientEndpoint = other.ClientEndpoint }),
		"another application's pair": with(func(g *b24oauth.Grant) {
			x := a.AnotherApplications()
			g.AccessToken, g.RefreshToken = x.AccessToken, x.RefreshToken
		}),
		"a server of his own":              with(func(g *b24oauth.Grant) { g.ServerEndpoint = "https://evil.example/rest/" }),
		"the victim's spent refresh token": with(func(g *b24oauth.Grant) { g.RefreshToken = victim.RefreshToken }),
	}
}

func TestAForgedPageOrInstallationStoresNothing(t *testing.T) {
	for _, installed := range []bool{true, false} { // or over nothing
		synctest.Test(t, func(t *testing.T) {
			a := newApplication(t)
			admin := a.Install()
			if installed {
				a.send(a.FrameRequest(handler, admin))
			}
			before := a.stored(t)
			a.SetInstalled(false) // so that whatever is proven may replace it
			secrets := []string{a.ClientSecret(), admin.AccessToken, admin.RefreshToken}
			for name, g := range forgeries(a, admin) {
				secrets = append(secrets, g.AccessToken, g.RefreshToken)
				w := a.send(a.FrameRequest(handler, g))
				if ok := g.MemberID == "" && w.Code == 400 || w.Code == 403; !ok {
					t.Errorf("page with %s: %d %s", name, w.Code, w.Body)
				}
				for _, event := range []string{"ONAPPINSTALL", "ONAPPUPDATE", "ONSUBSCRIPTIONRENEW"} {
					w := a.send(a.EventRequest(handler, event, g, nil))
					if ok := g.MemberID == "" && w.Code == 400 || w.Code == 200; !ok {
						t.Errorf("%s with %s: %d %s", event, name, w.Code, w.Body)
					}
					settle()
				}
				a.send(a.UserReadyRequest(handler, admin, g))
				settle()
				after := a.stored(t)
				if (before == nil) != (after == nil) || before != nil && after.RefreshToken != before.RefreshToken {
					t.Errorf("%s: stored %v", name, after)
				}
			}
			if before != nil {
				if _, err := a.Handler.Config.TokenSource(a.key()).Renew(t.Context(), nil); err != nil {
					t.Errorf("the grant that was stored is dead: %v", err)
				}
			}
			logged := a.log.String()
			for _, secret := range secrets {
				if strings.Contains(logged, secret) {
					t.Errorf("the log tells %q", secret)
				}
			}
			if !strings.Contains(logged, "member_id is") || !strings.Contains(logged, "client_id is") {
				t.Errorf("the log does not say what contradicts:\n%s", logged)
			}
			for slot := range 64 {
				if _, err := a.store.Load(t.Context(), pendingKey(a, slot)); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Errorf("slot %d is not free: %v", slot, err)
				}
			}
		})
	}
}

// No server is asked but the trusted ones, whatever a request names.
func TestAForgedServerIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := make(map[string]bool)
		watch := roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[r.URL.Host] = true
			return &http.Response{StatusCode: 401, Body: io.NopCloser(strings.NewReader(`{"error":"invalid_token"}`)), Header: http.Header{}}, nil
		})
		config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", Store: new(b24oauth.MemoryStore), TokenClient: &http.Client{Transport: watch}}
		h := &install.Handler{Config: config, PortalTransport: watch, OnEvent: func(context.Context, *install.Event, install.Sender) { t.Error("an event arrives") }}
		defer h.Close(context.Background())
		srv := newServer(t)
		g := &b24oauth.Grant{MemberID: "m", ClientEndpoint: "https://evil.example/rest/", AccessToken: "a", RefreshToken: "r", ApplicationToken: "t"}
		for _, server := range []string{"https://evil.example/rest/", "https://oauth.bitrix.info.evil.example/rest/", "https://oauth.bitrix.info@evil.example/", "", "https://oauth.bitrix24.tech/rest/"} {
			g.ServerEndpoint = server
			for _, r := range []*http.Request{srv.FrameRequest(handler, g), srv.EventRequest(handler, "ONAPPINSTALL", g, nil), srv.EventRequest(handler, "ONCRMDEALADD", g, nil), srv.EventRequest(handler, "ONAPPUNINSTALL", g, nil), srv.RobotRequest(handler, "c", g)} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != 200 && w.Code != 403 {
					t.Errorf("%q: %d %s", server, w.Code, w.Body)
				}
				synctest.Wait()
			}
		}
		for host := range asked {
			if host != "oauth.bitrix.info" && host != "oauth.bitrix24.tech" {
				t.Errorf("%s was asked", host)
			}
		}
		if len(asked) != 2 {
			t.Errorf("%v were asked", asked)
		}
	})
}

func TestAnInstallationByEventIsKeptUntilItIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		sick := true // the authorization server is
		transport := a.Handler.Config.TokenClient.Transport
		failing := roundTripper(func(r *http.Request) (*http.Response, error) {
			if sick {
				return &http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}}, nil
			}
			return transport.RoundTrip(r)
		})
		a.Handler.Config.TokenClient = &http.Client{Transport: failing}
		for range 3 { // delivered again and again
			if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", admin, nil)); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		time.Sleep(10 * time.Minute)
		if a.stored(t) != nil {
			t.Fatal("stored without proof")
		}
		for key, err := range a.Handler.Config.Keys(t.Context()) {
			t.Errorf("what is pending is listed: %q, %v", key, err)
		}
		if err := a.Handler.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", admin, nil)); w.Code != 503 {
			t.Errorf("after Close: %d", w.Code)
		}

		a.restart(t)
		if err := a.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle()
		if g := a.stored(t); g == nil || g.UserID != admin.UserID || a.Refreshes() != 1 {
			t.Errorf("after the restart: stored %v, %d refreshes", g, a.Refreshes())
		}
		if err := a.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle()
		if a.Refreshes() != 1 {
			t.Error("what was proven is still pending")
		}
	})
}

func TestWhatIsPendingIsGivenUpAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		a.Handler.Config.TokenClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") })}
		g := a.Install()
		if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", g, nil)); w.Code != 200 {
			t.Fatal(w.Code)
		}
		time.Sleep(2 * time.Hour)
		for slot := range 64 {
			if _, err := a.store.Load(t.Context(), pendingKey(a, slot)); !errors.Is(err, b24oauth.ErrNoGrant) {
				t.Errorf("slot %d: %v", slot, err)
			}
		}
	})
}

func TestWhatIsPendingIsNotPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		requests := 0
		var mu sync.Mutex
		a.Handler.Config.TokenClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			requests++
			return nil, errors.New("down")
		})}
		var kept, sentAway int
		for i := range 200 {
			g := a.Install()
			g.RefreshToken = fmt.Sprint("made-up-refresh-token-", i)
			switch w := a.send(a.EventRequest(handler, "ONAPPINSTALL", g, nil)); w.Code {
			case 200:
				kept++
			case 503:
				sentAway++
			default:
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		settle()
		if kept != 64 || sentAway != 136 {
			t.Errorf("%d kept, %d sent away; want 64 kept", kept, sentAway)
		}
		mu.Lock()
		defer mu.Unlock()
		if requests > 64 {
			t.Errorf("%d requests to the server", requests)
		}
	})
}

func TestAnUninstallationIsAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		gone := func() { // any user of the portal can send it
			if w := a.send(a.EventRequest(handler, "ONAPPUNINSTALL", admin, nil)); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			settle()
		}
		gone()
		if a.stored(t) == nil {
			t.Fatal("deleted without being asked about")
		}
		key := a.key()
		a.Uninstall()
		gone()
		if _, err := a.Handler.Config.TokenSource(key).Grant(t.Context()); !errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("after the removal: %v", err)
		}
		gone() // again
	})
}

func TestEventsReachTheProgramWithTheirSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin := a.Install()
		a.send(a.FrameRequest(handler, admin))
		type got struct {
			name string
			user int64
			key  string
		}
		var events []got
		a.OnEvent = func(_ context.Context, e *install.Event, from install.Sender) {
			events = append(events, got{e.Name, from.UserID, from.Key})
		}
		employee := a.Employee()
		nobody := *admin
		nobody.AccessToken, nobody.RefreshToken, nobody.UserID = "", "", 0
		stranger := nobody
		stranger.ApplicationToken = "made-up"
		empty := nobody
		empty.ApplicationToken = ""
		key := a.key()
		for _, c := range []struct {
			r    *http.Request
			want *got
		}{
			{a.EventRequest(handler, "ONCRMDEALADD", employee, url.Values{"FIELDS[ID]": {"1"}}), &got{"ONCRMDEALADD", employee.UserID, key}},
			{a.EventRequest(handler, "ONCRMDEALADD", employee, nil), &got{"ONCRMDEALADD", employee.UserID, key}}, // remembered
			{a.RobotRequest(handler, "code", employee), &got{"", employee.UserID, key}},
			{a.EventRequest(handler, "ONCRMDEALADD", &nobody, nil), &got{"ONCRMDEALADD", 0, key}},
			{a.EventRequest(handler, "ONCRMDEALADD", &stranger, nil), nil},
			{a.EventRequest(handler, "ONCRMDEALADD", &empty, nil), nil},
			{a.EventRequest(handler, "ONCRMDEALADD", a.AnotherApplications(), nil), nil},
		} {
			events = nil
			if w := a.send(c.r); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			settle()
			switch {
			case c.want == nil && len(events) > 0:
				t.Errorf("a forged event arrives: %+v", events)
			case c.want != nil && (len(events) != 1 || events[0] != *c.want):
				t.Errorf("%+v arrive, want %+v", events, *c.want)
			}
		}
		if a.Refreshes() != 1 {
			t.Errorf("%d refreshes: the pair of an event was used", a.Refreshes())
		}
	})
}

func TestASystemUserIsTheProgramsToAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		admin, system := a.Install(), a.Employee()
		a.send(a.FrameRequest(handler, admin))
		before := a.stored(t)
		a.send(a.UserReadyRequest(handler, admin, system))
		settle()
		if a.stored(t).RefreshToken != before.RefreshToken {
			t.Error("adopted without SystemUser")
		}
		a.restart(t)
		a.SystemUser = func(_ context.Context, g *b24oauth.Grant) error {
			if g.UserID != system.UserID {
				return errors.New("another one")
			}
			return nil
		}
		a.send(a.UserReadyRequest(handler, admin, system))
		settle()
		if g := a.stored(t); g.UserID != system.UserID || g.ApplicationToken != admin.ApplicationToken {
			t.Errorf("stored %v", g)
		}
	})
}

func TestOtherRequestsAreToldWhatIsWrong(t *testing.T) {
	a := newApplication(t)
	g := a.Install()
	large := a.FrameRequest(handler, g)
	large.Body, large.ContentLength = io.NopCloser(strings.NewReader("AUTH_ID=a&x="+strings.Repeat("x", 70<<10))), 70<<10+12
	text := a.FrameRequest(handler, g)
	text.Header.Set("Content-Type", "text/plain")
	private := a.FrameRequest(handler, &b24oauth.Grant{ClientEndpoint: "https://10.0.0.1/rest/", AccessToken: "a", RefreshToken: "r", MemberID: "m"})
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		says   string
	}{
		"GET":             {httptest.NewRequest("GET", handler, nil), 200, "for Bitrix24"},
		"HEAD":            {httptest.NewRequest("HEAD", handler, nil), 200, ""},
		"PUT":             {httptest.NewRequest("PUT", handler, nil), 405, "POST"},
		"another type":    {text, 415, "x-www-form-urlencoded"},
		"nothing":         {request("", ""), 400, "AUTH_ID"},
		"no DOMAIN":       {request("", "AUTH_ID=a&REFRESH_ID=r&member_id=m"), 400, "DOMAIN"},
		"no pair":         {request("DOMAIN=example.bitrix24.com", "AUTH_ID=&REFRESH_ID=r&member_id=m"), 400, "pair"},
		"too large":       {large, 413, "too large"},
		"an event's pair": {request("", "event=ONAPPINSTALL&auth[member_id]=m&auth[access_token]=a"), 400, "pair"},
		"no member":       {request("", "event=ONCRMDEALADD"), 400, "member_id"},
		"damaged":         {request("", "event=%zz"), 400, "damaged"},
	} {
		w := a.send(c.r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s; want %d, %q", name, w.Code, w.Body, c.status, c.says)
		}
	}
	a.restart(t)
	a.AllowPrivate = false
	if w := a.send(private); w.Code != 400 || !strings.Contains(w.Body.String(), "AllowPrivate") {
		t.Errorf("a private portal: %d %s", w.Code, w.Body)
	}
	if w := (&application{Handler: new(install.Handler)}).send(a.FrameRequest(handler, g)); w.Code != 500 || !strings.Contains(w.Body.String(), "Config") {
		t.Errorf("without a Config: %d %s", w.Code, w.Body)
	}
}

func TestASessionIsItsPagesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		var visit *install.Visit
		a.Page = func(_ http.ResponseWriter, _ *http.Request, v *install.Visit) { visit = v }
		admin := a.Install()
		if w := a.send(a.FrameRequest(handler, admin)); w.Code != 200 || visit == nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		with := func(authorization string) *http.Request {
			r := httptest.NewRequest("POST", "/api", nil)
			r.Header.Set("Authorization", authorization)
			return r
		}
		token := visit.Token()
		s, err := a.Session(with("bearer " + token))
		if err != nil || s.UserID != admin.UserID || s.MemberID != admin.MemberID || s.ClientID != a.ClientID() {
			t.Errorf("%+v, %v", s, err)
		}
		other := &install.Handler{Config: a.Config()} // another process
		if _, err := other.Session(with("Bearer " + token)); err != nil {
			t.Error(err)
		}
		stranger := &install.Handler{Config: &b24oauth.Config{ClientID: a.ClientID(), ClientSecret: "another"}}
		if _, err := stranger.Session(with("Bearer " + token)); !errors.Is(err, install.ErrNoSession) {
			t.Errorf("another secret: %v", err)
		}
		half := strings.Split(token, ".")
		for _, bad := range []string{"", "Bearer", "Bearer ", "Basic " + token, "Bearer " + token[1:], "Bearer " + token[:len(token)-1], "Bearer " + half[0], "Bearer ." + half[1], "Bearer " + half[1] + "." + half[0]} {
			if _, err := a.Session(with(bad)); !errors.Is(err, install.ErrNoSession) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		time.Sleep(10 * time.Minute)
		if _, err := a.Session(with("Bearer " + token)); !errors.Is(err, install.ErrNoSession) {
			t.Errorf("after ten minutes: %v", err)
		}
		canary.Of(token, a.ClientSecret()).Check(t, "a visit", canary.Value("it", visit))
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// pendingKey is the key of a slot for what is pending.
func pendingKey(a *application, slot int) string { return reserved.Pending(a.ClientID(), slot) }

var errBroken = errors.New("disk full")

// brokenStore takes nothing.
type brokenStore struct{ b24oauth.Store }

func (brokenStore) Update(context.Context, string, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	return errBroken
}

var employeeProfile = b24test.Answer{Status: 200, Body: `{"result":{"ID":"999","ADMIN":false}}`}

// A crowd costs no more than fits.
func TestTenThousandForgedInstallationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		var mu sync.Mutex
		codes := make(map[int]int)
		g := a.Employee()
		var wg sync.WaitGroup
		crowd := 10000
		if racetest.Enabled {
			crowd = 1000
		}
		for i := range crowd {
			forged := *g
			forged.AccessToken, forged.RefreshToken = fmt.Sprint("made-up-access-", i), fmt.Sprint("made-up-refresh-", i)
			r := a.EventRequest(handler, "ONAPPINSTALL", &forged, nil)
			wg.Go(func() {
				w := a.send(r)
				mu.Lock()
				defer mu.Unlock()
				codes[w.Code]++
			})
		}
		wg.Wait()
		settle()
		if codes[200]+codes[503] != crowd || len(a.TokenRequests()) != 0 || a.stored(t) != nil {
			t.Errorf("answers %v, %d token requests, stored %v", codes, len(a.TokenRequests()), a.stored(t))
		}
		// Each that was taken is seen to, if need be again, and leaves its slot.
		time.Sleep(time.Minute)
		if n := strings.Count(a.log.String(), "was not followed"); n < codes[200] {
			t.Errorf("%d of %d were looked at", n, codes[200])
		}
		for slot := range 64 {
			if _, err := a.store.Load(t.Context(), pendingKey(a, slot)); !errors.Is(err, b24oauth.ErrNoGrant) {
				t.Errorf("slot %d is not free: %v", slot, err)
			}
		}
		// And an installation comes through after that.
		if w := a.send(a.EventRequest(handler, "ONAPPINSTALL", a.Install(), nil)); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		settle()
		if a.stored(t) == nil {
			t.Error("not stored")
		}
	})
}

func TestAUsersOwnGrantIsKeptUnderAKeyOfHisOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		a.KeyOfUser = func(clientID, memberID string, user int64) string {
			return fmt.Sprint(install.Key(clientID, memberID), "/", user)
		}
		var visit *install.Visit
		a.Page = func(_ http.ResponseWriter, _ *http.Request, v *install.Visit) { visit = v }
		a.send(a.FrameRequest(handler, a.Install()))
		portals := a.stored(t)
		employee := a.Employee()
		for range 3 {
			if w := a.send(a.FrameRequest(handler, employee)); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		g, err := a.Handler.Config.TokenSource(visit.UserKey).Grant(t.Context())
		if err != nil || g.UserID != employee.UserID || g.RefreshToken == employee.RefreshToken || a.Refreshes() != 2 {
			t.Errorf("%v, %v, %d refreshes", g, err, a.Refreshes())
		}
		mixed := *a.Employee()
		mixed.RefreshToken = a.Employee().RefreshToken
		if w := a.send(a.FrameRequest(handler, &mixed)); w.Code != 403 {
			t.Errorf("a mixed pair: %d", w.Code)
		}
		if a.stored(t).RefreshToken != portals.RefreshToken {
			t.Error("the portal's grant was replaced")
		}
	})
}

// Whatever arrives, something is answered, and nothing is stored for it.
func FuzzHandler(f *testing.F) {
	srv := newServer(f)
	g := srv.Install()
	for _, r := range []*http.Request{srv.FrameRequest(handler, g), srv.EventRequest(handler, "ONAPPINSTALL", g, nil), srv.EventRequest(handler, "ONAPPUNINSTALL", g, nil), srv.UserReadyRequest(handler, g, g), srv.RobotRequest(handler, "c", g)} {
		if err := r.ParseForm(); err != nil {
			f.Fatal(err)
		}
		f.Add(r.URL.RawQuery, r.PostForm.Encode())
	}
	refuse := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 401, Body: io.NopCloser(strings.NewReader(`{"error":"invalid_token"}`)), Header: http.Header{}}, nil
	})
	f.Fuzz(func(t *testing.T, query, body string) {
		store := new(b24oauth.MemoryStore)
		h := &install.Handler{
			Config:          &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", Store: store, TokenClient: &http.Client{Transport: refuse}},
			AllowPrivate:    true,
			PortalTransport: refuse,
			OnEvent: func(context.Context, *install.Event, install.Sender) {
				t.Error("an event arrives that nobody vouches for")
			},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(query, body))
		if err := h.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		switch w.Code {
		case 200, 400, 403, 413, 503:
		default:
			t.Errorf("%d %s", w.Code, w.Body)
		}
		for key := range h.Config.Keys(context.Background()) {
			t.Errorf("stored under %q", key)
		}
	})
}

// What was believed once is not believed again when it is older.
func TestAReplayedInstallationRevivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		first, second := a.Install(), a.Install()
		replay := func(when string, want string) {
			t.Helper()
			for _, r := range []*http.Request{a.FrameRequest(handler, first), a.EventRequest(handler, "ONAPPINSTALL", first, nil), a.EventRequest(handler, "ONAPPUPDATE", first, nil)} {
				a.send(r)
				settle()
				got := ""
				if g := a.stored(t); g != nil {
					got = g.RefreshToken
				}
				if got != want {
					t.Errorf("%s: another grant is stored", when)
				}
			}
		}
		a.SetInstalled(false)
		a.send(a.FrameRequest(handler, first))
		replay("at once", a.stored(t).RefreshToken)
		if _, err := a.Handler.Config.TokenSource(a.key()).Renew(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		replay("after a renewal", a.stored(t).RefreshToken)
		a.send(a.FrameRequest(handler, second))
		if a.stored(t).UserID != second.UserID {
			t.Fatal("the second installation is not stored")
		}
		replay("after another installation", a.stored(t).RefreshToken)
		if err := a.Handler.Config.Delete(t.Context(), a.key()); err != nil {
			t.Fatal(err)
		}
		replay("after Delete", "")
		time.Sleep(2 * time.Hour)
		replay("two hours later", "")
		if a.Refreshes() != 3 {
			t.Errorf("%d refreshes, want 3: two installations and a renewal", a.Refreshes())
		}
	})
}
