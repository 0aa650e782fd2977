package install

import (
	"net/http"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// What nobody has signed is no session, and no journey to a portal either.
func FuzzSigned(f *testing.F) {
	h := &Handler{Config: &b24oauth.Config{ClientID: "app.1", ClientSecret: "the-client-secret"}}
	stranger := &Handler{Config: &b24oauth.Config{ClientID: "app.1", ClientSecret: "a-stranger's-secret"}}
	token := stranger.sign("member", 7)
	cookie := stranger.seal(journey{"state", "example.bitrix24.com", time.Now().Add(stateFor)})
	for _, seed := range []string{token, cookie, token + "x", "", ".", "e30.", "e30.AAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + value}}}
		if s, err := h.Session(r); err == nil {
			t.Errorf("%q is a session: %+v", value, s)
		}
		if j, ok := h.unseal(value); ok {
			t.Errorf("%q is a journey: %+v", value, j)
		}
	})
}
