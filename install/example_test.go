package install_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/install"
)

// A handler of an install page that takes nothing on trust: who has sent the
// request is asked of the authorization server, and the pair is exchanged before
// it is stored. A re-installation takes the place of a grant that works or is dead,
// and one that is delivered again changes nothing.
func ExampleReadGrant() {
	srv := b24test.NewServer() // stands for Bitrix24
	defer srv.Close()
	config := srv.Config() // a program uses ConfigFromEnv and sets a Store

	reader := install.Reader{AllowPrivate: true} // for srv, which is on this machine; a program uses install.ReadGrant
	handler := func(w http.ResponseWriter, r *http.Request) {
		grant, err := reader.ReadGrant(r)
		if err == nil {
			_, err = config.Confirm(r.Context(), grant)
		}
		if err == nil {
			err = config.Redeem(r.Context(), "example", grant, func(_ context.Context, renewed *b24oauth.Grant) error {
				if renewed.UserID != 1 { // who may install the application is the program's to say
					return errors.New("this user may not install the application")
				}
				return nil
			})
		}
		switch {
		case errors.Is(err, b24oauth.ErrOutdated):
			fmt.Fprint(w, "installed already")
		case errors.Is(err, b24oauth.ErrContradicted):
			http.Error(w, "forged", http.StatusForbidden)
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			fmt.Fprint(w, "installed")
		}
	}

	post := func(r *http.Request) {
		w := httptest.NewRecorder()
		handler(w, r)
		fmt.Println(w.Body.String())
	}
	administrator, user := srv.Install(), srv.Install()
	post(srv.FrameRequest("https://app.example.com/install", administrator))
	post(srv.FrameRequest("https://app.example.com/install", administrator))
	post(srv.FrameRequest("https://app.example.com/install", user))
	forged := *user
	forged.MemberID = "another portal's"
	post(srv.FrameRequest("https://app.example.com/install", &forged))
	// Output:
	// installed
	// installed already
	// this user may not install the application
	//
	// forged
}

// One handler for all addresses that Bitrix24 calls. What it cannot prove it
// refuses or drops, and says why in Config.Logger.
func ExampleHandler() {
	srv := b24test.NewServer() // stands for Bitrix24
	defer srv.Close()
	config := srv.Config() // a program uses ConfigFromEnv and sets a Store

	handler := &install.Handler{
		Config:       config,
		AllowPrivate: true, // for srv, which is on this machine
		Page: func(w http.ResponseWriter, r *http.Request, v *install.Visit) {
			fmt.Fprintf(w, "hello, user %d", v.UserID)
		},
	}
	if err := handler.Resume(context.Background()); err != nil {
		fmt.Println(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/bitrix", handler)

	for _, user := range []*b24oauth.Grant{srv.Install(), srv.Employee()} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, srv.FrameRequest("https://app.example.com/bitrix", user))
		fmt.Println(w.Body.String())
	}
	resp, err := srv.HTTPClient(config, install.Key(srv.ClientID(), srv.Install().MemberID)).Get(srv.Endpoint() + "crm.deal.list")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// hello, user 1
	// hello, user 2
	// 200 OK
}
