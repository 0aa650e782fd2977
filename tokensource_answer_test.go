package b24oauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

const pairOfTheAnswer = `{"access_token":"new-access","refresh_token":"new-refresh","expires_in":3600}`

// slowServer answers after d, or when the request is given up unless it
// ignores that.
func slowServer(d time.Duration, ignoresEnd bool) tokenServer {
	return func(req *http.Request) (*http.Response, error) {
		ended := req.Context().Done()
		if ignoresEnd {
			ended = nil
		}
		select {
		case <-time.After(d):
			return answers(200, pairOfTheAnswer)(req)
		case <-ended:
			return nil, req.Context().Err()
		}
	}
}

func TestGuarantee13AnswerOnItsWayIsKeptWhateverTheCallersAndTheClientHaveGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		slow    time.Duration
		timeout time.Duration // of the user's client
		told    bool          // the caller is told before the answer is there
	}{
		"a client's Timeout shorter than the answer":  {3 * time.Second, time.Second, false},
		"an answer after RefreshTimeout":              {17 * time.Second, 0, true},
		"an answer after both":                        {19 * time.Second, time.Second, true},
		"a client's Timeout longer than the exchange": {17 * time.Second, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				srv := slowServer(test.slow, false)
				c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
					requests++
					return srv(req)
				}))
				c.TokenClient.Timeout = test.timeout
				if err := c.Save(t.Context(), key, spent()); err != nil {
					t.Fatal(err)
				}
				_, err := c.TokenSource(key).Token()
				var timeout interface{ Timeout() bool }
				switch {
				case !test.told && err != nil:
					t.Errorf("error %v, want the token", err)
				case test.told && (!errors.Is(err, b24oauth.ErrUnavailable) || !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), "still waited for")):
					t.Errorf("error %v, want a timeout that says that the answer is waited for", err)
				}
				if err := c.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				if got, err := c.TokenSource(key).Token(); err != nil || got.AccessToken != "new-access" || requests != 1 {
					t.Errorf("token %v, error %v, %d requests; want the pair of the one answer", got, err, requests)
				}
			})
		})
	}
}

func TestGuarantee13TransportThatIgnoresItsContextIsNamedAndItsPairIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(slowServer(time.Minute, true))
		if err := c.Save(t.Context(), key, spent()); err != nil {
			t.Fatal(err)
		}
		source := c.TokenSource(key)
		if _, err := source.Token(); !errors.Is(err, b24oauth.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		<-time.After(10 * time.Second) // the job ends, within its bounds
		_, err := source.Token()
		if !errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), "b24oauth_test.tokenServer") || !strings.Contains(err.Error(), "replace it") {
			t.Errorf("error %v, want one that names the transport", err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if g, err := source.Grant(t.Context()); err != nil || g.RefreshToken != "new-refresh" {
			t.Errorf("stored %v, error %v; want the pair that came in the end", g, err)
		}
		if got, err := source.Token(); err != nil || got.AccessToken != "new-access" {
			t.Errorf("token %v, error %v", got, err)
		}
	})
}
