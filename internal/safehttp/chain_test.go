package safehttp_test

import (
	"net/http"
	"testing"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/safehttp"
)

type sought struct{ http.RoundTripper }

func isSought(rt http.RoundTripper) bool { _, ok := rt.(sought); return ok }

func retrying(over http.RoundTripper) *retryablehttp.RoundTripper {
	return &retryablehttp.RoundTripper{Client: &retryablehttp.Client{HTTPClient: &http.Client{Transport: over}}}
}

func TestChainOfTransportsIsFollowedToItsEnd(t *testing.T) {
	circle := &oauth2.Transport{}
	circle.Base = retrying(circle)
	var none *oauth2.Transport
	var noRetrying *retryablehttp.RoundTripper
	usual := http.DefaultTransport
	defer func() { http.DefaultTransport = usual }()
	for name, c := range map[string]struct {
		rt, byDefault http.RoundTripper
		want          bool
	}{
		"itself":                        {sought{}, usual, true},
		"under go-retryablehttp":        {retrying(sought{}), usual, true},
		"under oauth2":                  {&oauth2.Transport{Base: sought{}}, usual, true},
		"under both, twice":             {retrying(&oauth2.Transport{Base: retrying(&oauth2.Transport{Base: sought{}})}), usual, true},
		"by default":                    {nil, sought{}, true},
		"by default, under oauth2":      {&oauth2.Transport{}, sought{}, true},
		"by default, under both":        {retrying(&oauth2.Transport{}), sought{}, true},
		"a circle":                      {circle, usual, true},
		"the usual one":                 {nil, usual, false},
		"the usual one under both":      {retrying(&oauth2.Transport{Base: usual}), usual, false},
		"a nil oauth2":                  {none, sought{}, false},
		"a nil go-retryablehttp":        {noRetrying, sought{}, false},
		"a go-retryablehttp of its own": {&retryablehttp.RoundTripper{}, sought{}, false},
		"no client in it":               {&retryablehttp.RoundTripper{Client: &retryablehttp.Client{}}, sought{}, false},
		"no default":                    {nil, nil, false},
	} {
		http.DefaultTransport = c.byDefault
		if got := safehttp.LeadsTo(c.rt, isSought); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { safehttp.LeadsTo(nil, isSought) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
