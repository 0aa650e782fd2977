package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/racetest"
)

func TestSourceIsTheSameOneAsLongAsAnybodyHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		first := p.config.TokenSource(key)
		<-time.After(2*time.Hour - time.Minute)
		p.config.TokenSource("another")
		if p.config.TokenSource(key) != first {
			t.Error("another source before two idle hours")
		}
		<-time.After(90 * time.Minute)
		token(t, first) // used, without being asked for anew
		<-time.After(90 * time.Minute)
		p.config.TokenSource("a third")
		if p.config.TokenSource(key) != first {
			t.Error("another source though the first is used")
		}
		<-time.After(1000 * time.Hour)
		if p.config.TokenSource(key) != first {
			t.Error("another source though nothing made the Config look for idle ones")
		}
		<-time.After(2*time.Hour + 2*time.Minute)
		p.config.TokenSource("a fourth")
		if p.config.TokenSource(key) != first {
			t.Error("there are two sources of one grant, though the first is held")
		}
		runtime.KeepAlive(first)
	})
}

func TestSourceThatNobodyHoldsIsGivenUpAfterTwoIdleHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		token(t, p.source)
		held := p.letGo()
		<-time.After(2*time.Hour - time.Minute)
		p.config.TokenSource("another")
		if collected(held) {
			t.Error("given up before two idle hours")
		}
		<-time.After(time.Hour + 2*time.Minute)
		p.config.TokenSource("a third")
		if !collected(held) {
			t.Error("kept after two idle hours")
		}
		token(t, p.config.TokenSource(key))
	})
}

// letGo forgets the program's source, and returns a pointer by which to see
// whether anybody else keeps it.
func (p *program) letGo() weak.Pointer[b24oauth.TokenSource] {
	held := weak.Make(p.source)
	p.source, p.client = nil, nil
	return held
}

func collected(p weak.Pointer[b24oauth.TokenSource]) bool {
	runtime.GC()
	runtime.GC()
	return p.Value() == nil
}

func TestSourceWithAnUnsavedPairIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, next := unsaved(t)
		store.failSaves()
		held := p.letGo()
		<-time.After(10 * time.Hour)
		p.config.TokenSource("another")
		if collected(held) {
			t.Fatal("a source with an unsaved pair was given up")
		}
		store.onUpdate(nil)
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken != next {
			t.Errorf("Flush = %v; want the pair stored", err)
		}
		<-time.After(10 * time.Hour)
		p.config.TokenSource("a third")
		if !collected(held) {
			t.Error("an idle source was kept")
		}
		runtime.KeepAlive(p.config)
	})
}

func TestFailureStateSurvivesAClientForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.KillGrants()
		<-time.After(2 * time.Hour)
		for range 100 {
			client := p.config.Client(key)
			client.Transport.(*b24oauth.Transport).Base = p.Client().Transport
			_, err := client.Get(p.Endpoint() + "profile")
			if !errors.Is(err, b24oauth.ErrReauthorize) {
				t.Errorf("%v, want ErrReauthorize", err)
			}
			<-time.After(time.Second)
		}
		wantRequests(t, p, 1)
	})
}

// minting is a Store that makes each grant when it is asked for, and keeps
// none: what is in memory then is the source's own.
type minting struct{}

func (minting) Load(_ context.Context, key string) (*b24oauth.Grant, error) {
	now := time.Now().Round(0)
	return &b24oauth.Grant{
		ClientID:         strings.Clone(mintedClientID),
		MemberID:         strings.Clone(key),
		ClientEndpoint:   "https://company-" + key[:12] + ".bitrix24.com/rest/",
		ServerEndpoint:   strings.Clone("https://oauth.bitrix.info/rest/"),
		AccessToken:      strings.Clone(strings.Repeat(key, 3)[:70]),
		RefreshToken:     strings.Clone(strings.Repeat("0"+key, 3)[:70]),
		ApplicationToken: strings.Clone(key),
		Issued:           now,
		Expiry:           now.Add(time.Hour),
		Scope:            strings.Clone("crm,entity,im,task,user_brief,placement"),
		Status:           strings.Clone("L"),
		UserID:           1,
	}, nil
}

func (minting) Update(context.Context, string, updateFunc) error { return errDown }

const mintedClientID = "app.573ad8a0346747.09223434"

func TestAHundredThousandPortalsAt800BytesEach(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some hundred megabytes")
	}
	portals := 100_000
	if racetest.Enabled {
		portals = 10_000
	}
	config := &b24oauth.Config{ClientID: mintedClientID, ClientSecret: "secret", Store: minting{}}
	callPortal(t, config, 0)
	before := heap()
	for i := range portals {
		callPortal(t, config, i)
	}
	each := (heap() - before) / uint64(portals)
	t.Logf("%d bytes for each of %d portals", each, portals)
	if each > 800 {
		t.Errorf("%d bytes for each portal, want at most 800", each)
	}
	runtime.KeepAlive(config)
}

// A portal whose grant replaced as many as a grant remembers, and was renewed for
// days, keeps what the next renewal needs and nothing of those before.
func TestAPortalTakesAKibibyteAfterFortyRenewals(t *testing.T) {
	if racetest.Enabled {
		t.Skip("what the race detector adds would count")
	}
	const portals, renewals = 500, 40
	synctest.Test(t, func(t *testing.T) {
		renewPortals(t, portals, 1) // the goroutines that this takes are kept by the runtime
		before := heap()
		config := renewPortals(t, portals, renewals)
		each := (heap() - before) / portals
		t.Logf("%d bytes for each of %d portals", each, portals)
		if each > 1024 {
			t.Errorf("%d bytes for each portal after %d renewals, want at most 1024", each, renewals)
		}
		runtime.KeepAlive(config)
	})
}

// renewPortals returns a Config that has used so many portals and renewed each
// of them so often.
func renewPortals(t *testing.T, portals, renewals int) *b24oauth.Config {
	t.Helper()
	store, issued := &struct{ *b24oauth.MemoryStore }{new(b24oauth.MemoryStore)}, 0
	config := &b24oauth.Config{ClientID: mintedClientID, ClientSecret: "secret", Store: store}
	config.TokenClient = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		issued++
		body := fmt.Sprintf(`{"access_token":"%070d","refresh_token":"%070d","expires_in":3600,"scope":"app","status":"L"}`, issued, -issued)
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})}
	for i := range portals {
		err := store.Update(t.Context(), portalKey(i), func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := minting{}.Load(ctx, portalKey(i))
			g.Lineage = b24oauth.Lineage{Root: 1, Former: make([]uint64, 32)}
			return g, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 1 + renewals {
		for i := range portals {
			callPortal(t, config, i)
		}
		<-time.After(time.Hour)
	}
	if issued != portals*renewals {
		t.Fatalf("%d renewals of %d portals, want %d", issued, portals, portals*renewals)
	}
	store.MemoryStore = nil // its grants are not what the sources keep
	return config
}

// callPortal calls a method of the portal with that number, through a client of
// its own, as a program does for each request that it serves.
func callPortal(t *testing.T, config *b24oauth.Config, n int) {
	t.Helper()
	client := config.Client(portalKey(n))
	client.Transport.(*b24oauth.Transport).Base = roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	})
	resp, err := client.Get("https://company-" + portalKey(n)[:12] + ".bitrix24.com/rest/profile")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func portalKey(n int) string {
	half := fmt.Sprintf("%016x", uint64(n)*0x9e3779b97f4a7c15)
	return half + half
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Who chooses the keys can make any number of sources without a grant.
func TestSourcesWithoutAGrantAreForgottenAfterAMinute(t *testing.T) {
	const keys = 10_000
	for name, use := range map[string]func(*b24oauth.TokenSource){
		"never used": func(*b24oauth.TokenSource) {},
		"no grant":   func(s *b24oauth.TokenSource) { wantFailure(t, s, b24oauth.ErrNoGrant, 0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			token(t, p.source)
			missing := p.config.TokenSource("held")
			wantFailure(t, missing, b24oauth.ErrNoGrant, 0)
			before := heap()
			for i := range keys {
				use(p.config.TokenSource(fmt.Sprintf("%032x", i)))
			}
			each := (heap() - before) / keys
			calls := func(n int) {
				for range n {
					p.config.TokenSource(key)
				}
				runtime.GC()
			}
			<-time.After(61 * time.Second)
			calls(keys / 100)
			weakly := (int64(heap()) - int64(before)) / keys
			<-time.After(30 * time.Second)
			calls(keys / 100)
			after := (int64(heap()) - int64(before)) / keys
			t.Logf("%s: %d bytes for each key, %d after a minute, %d after another half", name, each, weakly, after)
			if weakly > 150 || after > 10 {
				t.Errorf("%s: %d bytes for each key, %d after a minute, %d after another half", name, each, weakly, after)
			}
			if p.config.TokenSource("held") != missing || p.config.TokenSource(key) != p.source {
				t.Error("a source that somebody has was given up")
			}
		})
	}
}
