package safehttp

import (
	"errors"
	"net/http"
	"reflect"
	"testing"

	"github.com/hashicorp/go-retryablehttp"
)

// go-retryablehttp's client is copied field by field. One that a later version
// adds shows here.
func TestUnfollowingCopiesAllThatAUserCanSet(t *testing.T) {
	c := retryablehttp.NewClient()
	c.RetryWaitMin, c.RetryWaitMax, c.RetryMax = 1, 2, 3
	c.RequestLogHook = func(retryablehttp.Logger, *http.Request, int) {}
	c.ResponseLogHook = func(retryablehttp.Logger, *http.Response) {}
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.PrepareRetry = func(*http.Request) error { return nil }
	copied, ok := unfollowing(&retryablehttp.RoundTripper{Client: c}).(*retryablehttp.RoundTripper)
	if !ok {
		t.Fatal("it is no longer go-retryablehttp's transport")
	}
	from, to := reflect.ValueOf(c).Elem(), reflect.ValueOf(copied.Client).Elem()
	for i := range from.NumField() {
		switch name := from.Type().Field(i).Name; {
		case !from.Type().Field(i).IsExported(), name == "HTTPClient":
		case from.Field(i).IsZero():
			t.Errorf("the test does not set %s", name)
		case to.Field(i).IsZero():
			t.Errorf("%s is lost", name)
		}
	}
	if copied.Client.HTTPClient.Transport != c.HTTPClient.Transport {
		t.Error("the client inside has another transport")
	}
	if err := copied.Client.HTTPClient.CheckRedirect(nil, nil); !errors.Is(err, http.ErrUseLastResponse) {
		t.Errorf("it follows redirects: %v", err)
	}
	if c.HTTPClient.CheckRedirect != nil {
		t.Error("the user's client was changed")
	}
}

func TestUnfollowingTakesEmptyTransportsOfRetryablehttp(t *testing.T) {
	for name, rt := range map[string]*retryablehttp.RoundTripper{
		"no client":      {},
		"no http.Client": {Client: &retryablehttp.Client{}},
	} {
		got := unfollowing(rt).(*retryablehttp.RoundTripper)
		if unfollowing(rt).(*retryablehttp.RoundTripper).Client.HTTPClient.Transport != got.Client.HTTPClient.Transport {
			t.Errorf("%s: each call has connections of its own", name)
		}
		if got.Client.HTTPClient == nil || got.Client.HTTPClient.CheckRedirect == nil {
			t.Errorf("%s: it follows redirects", name)
		}
		if client := withoutRetries(&http.Client{Transport: rt}); client.Transport != nil {
			t.Errorf("%s: for token requests %+v", name, client)
		}
	}
	inner := &http.Client{Transport: &http.Transport{}, Timeout: 5}
	got := withoutRetries(&http.Client{Transport: &retryablehttp.RoundTripper{Client: &retryablehttp.Client{HTTPClient: inner}}})
	if got.Transport != inner.Transport || got.Timeout != 5 {
		t.Errorf("for token requests %+v, want the client inside", got)
	}
}

func TestTokenRequestsAreNotBoundByTheUsersTimeout(t *testing.T) {
	user := &http.Client{Timeout: 1}
	for name, c := range map[string]*http.Client{
		"a client":              user,
		"go-retryablehttp's":    {Transport: &retryablehttp.RoundTripper{Client: &retryablehttp.Client{HTTPClient: user}}, Timeout: 1},
		"our own, which is nil": nil,
	} {
		if got := Once(c, "the client", "the secret"); got.Timeout != 0 {
			t.Errorf("%s: the answer is thrown away after %v", name, got.Timeout)
		}
	}
	slow := &http.Transport{ResponseHeaderTimeout: 1}
	got := Once(&http.Client{Transport: slow}, "the client", "the secret").Transport.(onceTransport).base.(*http.Transport)
	if got.ResponseHeaderTimeout != 0 || slow.ResponseHeaderTimeout != 1 {
		t.Errorf("the answer is thrown away after %v, and the user's transport has %v", got.ResponseHeaderTimeout, slow.ResponseHeaderTimeout)
	}
	if user.Timeout != 1 {
		t.Error("the user's client was changed")
	}
}
