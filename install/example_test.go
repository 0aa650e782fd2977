package install_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/install"
)

// A handler that stores the grant which an installation brings. The request
// could come from anybody, so what it brings never replaces a grant: this
// application belongs to one portal, and is installed there once.
func ExampleReadGrant() {
	config := &b24oauth.Config{ClientID: "local.example", ClientSecret: "made-up"} // a program uses ConfigFromEnv and sets a Store
	handler := func(w http.ResponseWriter, r *http.Request) {
		grant, err := install.ReadGrant(r)
		if err == nil && grant.ClientEndpoint != "https://example.bitrix24.com/rest/" {
			err = fmt.Errorf("an installation on another portal, %q", grant.ClientEndpoint)
		}
		if err == nil {
			_, err = config.TokenSource("example").Grant(r.Context())
			switch {
			case err == nil:
				err = errors.New("the application is installed already")
			case errors.Is(err, b24oauth.ErrNoGrant):
				err = config.Save(r.Context(), "example", grant)
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, "installed")
	}

	post := func(body string) {
		r := httptest.NewRequest(http.MethodPost, "/install?DOMAIN=example.bitrix24.com&PROTOCOL=1", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		handler(w, r)
		fmt.Println(strings.TrimSpace(w.Body.String()))
	}
	post("AUTH_ID=made-up-access&REFRESH_ID=made-up-refresh&AUTH_EXPIRES=3600&member_id=made-up-member")
	post("AUTH_ID=a-stranger's&REFRESH_ID=a-stranger's&AUTH_EXPIRES=3600&member_id=made-up-member")
	// Output:
	// installed
	// the application is installed already
}
