package b24oauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// embedding is a decorator of somebody's.
type embedding struct{ *b24oauth.Transport }

// The inner one's user would act, and nobody would notice.
func TestTransportOverATransportSendsNothing(t *testing.T) {
	p := newProgram(t)
	inner := p.over(p.base())
	retrying := func(over http.RoundTripper) http.RoundTripper {
		return &retryablehttp.RoundTripper{Client: &retryablehttp.Client{HTTPClient: &http.Client{Transport: over}}}
	}
	itself := p.over(nil)
	itself.Base = itself
	round := p.over(nil)
	round.Base = retrying(&oauth2.Transport{Base: round})
	static := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})
	usual := http.DefaultTransport
	defer func() { http.DefaultTransport = usual }()
	for name, c := range map[string]struct{ outer, byDefault http.RoundTripper }{
		"Base":                               {p.over(inner), usual},
		"itself":                             {itself, usual},
		"round about":                        {round, usual},
		"go-retryablehttp":                   {p.over(retrying(inner)), usual},
		"oauth2":                             {p.over(&oauth2.Transport{Source: static, Base: inner}), usual},
		"both, several deep":                 {p.over(retrying(&oauth2.Transport{Base: retrying(p.over(inner))})), usual},
		"embedded":                           {p.over(embedding{inner}), usual},
		"http.DefaultTransport":              {p.over(nil), inner},
		"http.DefaultTransport below oauth2": {p.over(&oauth2.Transport{Source: static}), inner},
		"a source of somebody else's":        {&b24oauth.Transport{Source: static, Base: inner}, usual},
	} {
		http.DefaultTransport = c.byDefault
		for _, path := range []string{"profile", "1/s3cret/profile", "../upload/f?token=x"} {
			body := watch("a=1")
			resp, err := c.outer.RoundTrip(post(t, p.Endpoint()+path, formType, body))
			if resp != nil || !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Transport.Base") {
				t.Errorf("%s, %s: %v, %v; want ErrMisconfigured", name, path, resp, err)
			}
			body.check(t)
		}
	}
	if calls := p.Requests(); len(calls) != 0 {
		t.Errorf("%d requests were sent", len(calls))
	}
}

// A token request by way of a Transport would wait for its own answer.
func TestTokenClientOverATransportIsAMistake(t *testing.T) {
	p := newProgram(t)
	for _, over := range []http.RoundTripper{p.client.Transport, &oauth2.Transport{Base: p.client.Transport}} {
		p.restart(func(c *b24oauth.Config) { c.TokenClient = &http.Client{Transport: over} })
		if _, err := p.source.Token(); !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "Config.TokenClient") {
			t.Errorf("%T: %v; want ErrMisconfigured", over, err)
		}
	}
}
