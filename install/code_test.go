package install_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

// depart sends a browser to the portal, and returns its cookie and the state.
func (a *application) depart(t *testing.T, portal string) (*http.Cookie, string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.AuthorizeHandler(func(r *http.Request) string { return r.FormValue("portal") }).
		ServeHTTP(w, httptest.NewRequest("GET", "https://app.example.com/login?portal="+url.QueryEscape(portal), nil))
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusSeeOther || !strings.HasPrefix(to.String(), portal+"/oauth/authorize/") || to.Query().Get("client_id") != a.ClientID() {
		t.Fatalf("%d to %s", w.Code, to)
	}
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 600 {
		t.Errorf("cookie %+v", c)
	}
	return c, to.Query().Get("state")
}

// arrive brings the browser back.
func (a *application) arrive(c *http.Cookie, query url.Values) (key string, _ *httptest.ResponseRecorder, err error) {
	r := httptest.NewRequest("GET", "https://app.example.com/callback?"+query.Encode(), nil)
	if c != nil {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	a.CallbackHandler(func(_ http.ResponseWriter, _ *http.Request, k string, e error) { key, err = k, e }).ServeHTTP(w, r)
	return key, w, err
}

func TestACodeIsTakenFromTheBrowserThatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		host, _ := url.Parse(a.URL())
		cookie, state := a.depart(t, a.URL())
		answer := url.Values{"code": {a.Code()}, "state": {state}, "domain": {host.Host}, "member_id": {a.member}}
		with := func(name, value string) url.Values {
			v := url.Values{}
			for n, values := range answer {
				v[n] = values
			}
			v.Set(name, value)
			return v
		}
		other := newApplication(t)
		foreign, foreignState := other.depart(t, a.URL())
		changed := *cookie
		changed.Value = cookie.Value[1:]
		for name, c := range map[string]struct {
			cookie *http.Cookie
			query  url.Values
		}{
			"no cookie":                 {nil, answer},
			"another state":             {cookie, with("state", "made-up")},
			"no state":                  {cookie, with("state", "")},
			"another portal":            {cookie, with("domain", "evil.bitrix24.com")},
			"a cookie that was changed": {&changed, answer},
			"another application's":     {foreign, with("state", foreignState)},
		} {
			if key, _, err := a.arrive(c.cookie, c.query); err == nil || key != "" || !strings.Contains(err.Error(), "begin anew") {
				t.Errorf("%s: %q, %v", name, key, err)
			}
		}
		if n := len(a.TokenRequests()); n != 0 {
			t.Fatalf("%d token requests: a code was spent", n)
		}
		key, w, err := a.arrive(cookie, answer)
		if err != nil || key != a.key() {
			t.Fatalf("%q, %v", key, err)
		}
		if g := a.stored(t); g == nil || g.UserID == 0 || g.MemberID != a.member {
			t.Errorf("stored %+v", g)
		}
		if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || c.Value != "" {
			t.Errorf("the cookie stays: %+v", c)
		}
		if _, _, err := a.arrive(cookie, answer); !errors.Is(err, b24oauth.ErrReauthorize) {
			t.Errorf("the code again: %v", err)
		}
		cookie, state = a.depart(t, a.URL())
		time.Sleep(10 * time.Minute)
		answer.Set("state", state)
		if _, _, err := a.arrive(cookie, answer); err == nil || !strings.Contains(err.Error(), "begin anew") {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}

func TestACodeIsNotSpentForAStoreThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		host, _ := url.Parse(a.URL())
		cookie, state := a.depart(t, a.URL())
		a.Handler.Config.Store = brokenStore{a.store}
		_, _, err := a.arrive(cookie, url.Values{"code": {a.Code()}, "state": {state}, "domain": {host.Host}})
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "not spent") || len(a.TokenRequests()) != 0 {
			t.Errorf("%v, %d token requests", err, len(a.TokenRequests()))
		}
	})
}

func TestABrowserIsSentToPortalsAlone(t *testing.T) {
	a := newApplication(t)
	a.AllowPrivate = false
	for _, portal := range []string{"", "  ", "https://", "http://10.0.0.1", "https://127.0.0.1", "localhost:80", "https://%zz"} {
		w := httptest.NewRecorder()
		a.AuthorizeHandler(func(*http.Request) string { return portal }).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 400 || w.Header().Get("Location") != "" {
			t.Errorf("%q: %d to %s", portal, w.Code, w.Header().Get("Location"))
		}
	}
	w := httptest.NewRecorder()
	a.AuthorizeHandler(func(*http.Request) string { return " example.bitrix24.com" }).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 303 || !strings.HasPrefix(w.Header().Get("Location"), "https://example.bitrix24.com/oauth/authorize/?") {
		t.Errorf("%d to %s", w.Code, w.Header().Get("Location"))
	}
}

func TestAnEmployeesCodeReplacesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplication(t)
		a.send(a.FrameRequest(handler, a.Install()))
		before := a.stored(t)
		a.On("profile", employeeProfile)
		host, _ := url.Parse(a.URL())
		cookie, state := a.depart(t, a.URL())
		if _, _, err := a.arrive(cookie, url.Values{"code": {a.Code()}, "state": {state}, "domain": {host.Host}}); err == nil || !strings.Contains(err.Error(), "no administrator") {
			t.Errorf("%v", err)
		}
		if a.stored(t).RefreshToken != before.RefreshToken {
			t.Error("replaced")
		}
	})
}
