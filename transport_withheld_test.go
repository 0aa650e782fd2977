package b24oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

func TestGuarantee7RequestToThePortalInTheClearIsNotSent(t *testing.T) {
	named := (&oauth2.Token{AccessToken: "secret-token"}).WithExtra(map[string]any{"client_endpoint": stubPortal})
	for name, c := range map[string]struct {
		source oauth2.TokenSource // nil: the program's
		url    string
		from   string // where a redirect led here from
	}{
		"its host":                           {nil, "http://portal.example/rest/m", ""},
		"its host outside of rest":           {nil, "http://portal.example/upload/f", ""},
		"its host at the port of https":      {nil, "http://PORTAL.example:443/rest/m", ""},
		"its host at another port":           {nil, "http://portal.example:8080/rest/m", ""},
		"a former host":                      {nil, "http://old.example/rest/m", ""},
		"a redirect":                         {nil, "http://portal.example/rest/m", "https://portal.example/rest/m"},
		"the portal that a token names":      {oauth2.StaticTokenSource(named), "http://portal.example/rest/m", ""},
		"a redirect, another kind of source": {oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"}), "http://any.example/m", "https://any.example/m"},
	} {
		p := newProgram(t)
		p.saveGrant(t, stubPortal, "old.example")
		if c.source == nil {
			c.source = p.source
		}
		var went recorder
		body := watch("a=1")
		req := post(t, c.url, formType, body)
		if c.from != "" {
			req.Response = answer(307, "")
			req.Response.Request = get(t, c.from)
		}
		resp, err := (&b24oauth.Transport{Source: c.source, Base: &went}).RoundTrip(req)
		if resp != nil || !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "https") || len(went) != 0 {
			t.Errorf("%s: %v, %v, sent %v; want ErrMisconfigured and nothing sent", name, resp, err, went)
		}
		body.check(t)
	}
}

func TestClientThatIsRedirectedToHTTPOnItsPortalSendsNothingThere(t *testing.T) {
	p := newProgramAt(t, stubPortal)
	sent := 0
	client := &http.Client{Transport: p.over(roundTripFunc(func(*http.Request) (*http.Response, error) {
		sent++
		resp := answer(http.StatusTemporaryRedirect, "")
		resp.Header.Set("Location", "http://portal.example/rest/m")
		return resp, nil
	}))}
	_, err := client.Post(stubPortal+"m", formType, strings.NewReader("a=1"))
	if !errors.Is(err, b24oauth.ErrMisconfigured) || sent != 1 {
		t.Errorf("%v after %d requests; want ErrMisconfigured after one", err, sent)
	}
}

func TestTokenThatIsWithheldByALikelyMistakeIsTold(t *testing.T) {
	for _, c := range []struct{ name, endpoint, url, says string }{
		{"another zone", "https://example.bitrix24.com/rest/", "https://example.bitrix24.ru/rest/m", "another Bitrix24 domain"},
		{"another zone of two labels", "https://example.bitrix24.com/rest/", "https://EXAMPLE.bitrix24.com.br/rest/m", "another Bitrix24 domain"},
		{"a former name's zone", stubPortal, "https://old.bitrix24.eu/rest/m", "another Bitrix24 domain"},
		{"another port", stubPortal, "https://portal.example:8443/rest/m", "another port"},
		{"without its port", "https://portal.example:8443/rest/", "https://portal.example/rest/m", "another port"},
		{"another scheme", "http://127.0.0.1:8080/rest/", "https://127.0.0.1:8080/rest/m", "another scheme"},
		{"a dot at its end", stubPortal, "https://portal.example./rest/m", "another spelling"},
		{"a field named token", stubPortal, "https://portal.example/rest/crm.deal.list?token=abc", "a field token"},
		{"a field named token, former host", stubPortal, "https://old.bitrix24.de/rest/crm.deal.list?token=abc", "a field token"},

		{"another host", stubPortal, "https://cdn.example/f", ""},
		{"another portal", "https://example.bitrix24.com/rest/", "https://another.bitrix24.com/rest/m", ""},
		{"http elsewhere", stubPortal, "http://cdn.example/f", ""},
		{"a signed link", stubPortal, "https://portal.example/rest/download.json?token=disk%7Cx%7Cy", ""},
		{"a link outside of rest", stubPortal, "https://portal.example/bitrix/file?token=x", ""},
		{"a webhook", stubPortal, "https://portal.example/rest/1/s3cret/m?token=x", ""},
		{"the portal", stubPortal, "https://portal.example/rest/m", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			var told []b24oauth.Event
			p := newProgram(t, func(config *b24oauth.Config) {
				config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				config.OnEvent = func(_ context.Context, e b24oauth.Event) { told = append(told, e) }
			})
			p.saveGrant(t, c.endpoint, "old.bitrix24.de")
			token(t, p.source)
			told = nil
			for range 3 {
				resp, err := p.over(new(recorder)).RoundTrip(get(t, c.url))
				status(t, resp, err)
			}
			if c.says == "" {
				if len(told) != 0 || strings.Contains(log.String(), "DEBUG") {
					t.Errorf("told %v, logged %s", told, &log)
				}
				return
			}
			if len(told) != 3 || told[0].Kind != b24oauth.EventTokenWithheld || told[0].Kind.String() != "token_withheld" || told[0].Key != key || told[0].Host != mustParse(t, c.url).Host ||
				!errors.Is(told[0].Err, b24oauth.ErrMisconfigured) || !strings.Contains(told[0].Err.Error(), c.says) {
				t.Errorf("told %v; want an Event for each request that says %q", told, c.says)
			}
			if n := strings.Count(log.String(), "level=DEBUG"); n != 3 || !strings.Contains(log.String(), c.says) {
				t.Errorf("%d lines for the debugging one:\n%s", n, &log)
			}
			if strings.Contains(log.String(), "secret-token") {
				t.Errorf("the log tells the token:\n%s", &log)
			}
		})
	}
}

// wrapper is somebody's own oauth2.TokenSource around another.
type wrapper struct{ oauth2.TokenSource }

func TestSourceThatHidesATokenSourceIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		wrap func(*b24oauth.TokenSource) oauth2.TokenSource
		told int
	}{
		"oauth2.ReuseTokenSource": {func(s *b24oauth.TokenSource) oauth2.TokenSource { return oauth2.ReuseTokenSource(nil, s) }, 1},
		"a decorator":             {func(s *b24oauth.TokenSource) oauth2.TokenSource { return wrapper{s} }, 1},
		"a token of before": {func(s *b24oauth.TokenSource) oauth2.TokenSource {
			tok, _ := s.Renew(context.Background(), nil)
			return oauth2.StaticTokenSource(tok)
		}, 1},
		"the *TokenSource": {func(s *b24oauth.TokenSource) oauth2.TokenSource { return s }, 0},
		"another's": {func(s *b24oauth.TokenSource) oauth2.TokenSource {
			return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})
		}, 0},
	} {
		var log bytes.Buffer
		p := newProgram(t, func(config *b24oauth.Config) {
			config.Store = new(b24oauth.MemoryStore)
			config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		source := c.wrap(p.source)
		for range 2 {
			resp, err := (&b24oauth.Transport{Source: source, Base: p.base()}).RoundTrip(get(t, p.Endpoint()+"profile"))
			if resp != nil {
				resp.Body.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "put the *TokenSource itself into Transport.Source"); n != c.told || strings.Count(log.String(), "WARN") != c.told || c.told > 0 && !strings.Contains(log.String(), fmt.Sprintf("source=%T", source)) {
			t.Errorf("%s: logged %s; want %d warnings", name, &log, c.told)
		}
	}
}

func TestGuarantee8TokenTellsNothingOfItsSource(t *testing.T) {
	p := newProgram(t)
	tok, err := p.source.Token()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.source.Grant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{string(data)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, tok), fmt.Sprintf(verb, *tok))
	}
	for _, shown := range shown {
		for _, secret := range []string{p.config.ClientSecret, g.RefreshToken, g.ApplicationToken} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s tells %q", shown, secret)
			}
		}
	}
}

func TestTokenFieldIsToldByAProcessThatHasJustStarted(t *testing.T) {
	var d eventLog
	store := new(b24oauth.MemoryStore)
	p := newProgram(t, with(store, nil))
	p.saveGrant(t, stubPortal)
	p.restart(with(store, &d))
	resp, err := p.over(new(recorder)).RoundTrip(get(t, stubPortal+"crm.deal.list?token=abc"))
	status(t, resp, err)
	d.want(t, "token_withheld")
}
