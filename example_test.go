package b24oauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// A plain http.Client that never meets an expired token. In a program the
// Config comes from ConfigFromEnv with a Store that outlives it, such as
// filestore's, and the grant from an installation.
func Example() {
	run := func() (err error) {
		srv := b24test.NewServer() // stands for Bitrix24
		defer srv.Close()
		ctx := context.Background()

		config := srv.Config()
		defer func() { err = errors.Join(err, config.Flush(ctx)) }()
		if err := config.Save(ctx, "acme", srv.Install()); err != nil {
			return err
		}
		client := config.Client("acme")

		srv.ExpireAccessTokens() // as happens every hour
		resp, err := client.PostForm(srv.Endpoint()+"crm.deal.list", url.Values{"filter[STAGE_ID]": {"NEW"}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		fmt.Println(resp.Status)
		fmt.Println("refreshes:", srv.Refreshes())
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 200 OK
	// refreshes: 1
}

// Transport goes into a client that exists already, under whatever else its
// transports do.
func ExampleTransport() {
	run := func() (err error) {
		srv := b24test.NewServer()
		defer srv.Close()
		ctx := context.Background()
		config := srv.Config()
		defer func() { err = errors.Join(err, config.Flush(ctx)) }()
		if err := config.Save(ctx, "acme", srv.Install()); err != nil {
			return err
		}

		client := http.Client{Transport: new(http.Transport)}
		client.Transport = &b24oauth.Transport{
			Source: config.TokenSource("acme"),
			Base:   client.Transport,
		}
		defer client.CloseIdleConnections()

		resp, err := client.Post(srv.Endpoint()+"crm.deal.get", "application/json", strings.NewReader(`{"id":1}`))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var answer struct {
			Result struct{ Params map[string]any }
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return err
		}
		fmt.Println(resp.Status, answer.Result.Params["id"])
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
	// Output: 200 OK 1
}

// The callback of the code flow: the code that the browser brings becomes a
// grant, and the grant is stored.
func ExampleConfig_Exchange() {
	srv := b24test.NewServer()
	defer srv.Close()
	config := srv.Config()

	callback := func(w http.ResponseWriter, r *http.Request) {
		// The state has been compared with the one in the user's session.
		grant, err := config.Exchange(r.Context(), r.FormValue("code"), r.FormValue("server_domain"))
		if err != nil {
			http.Error(w, "Bitrix24 did not confirm the authorization", http.StatusBadGateway)
			return
		}
		if err := config.Save(r.Context(), grant.MemberID, grant); err != nil {
			http.Error(w, "the authorization could not be stored", http.StatusInternalServerError)
			return
		}
		fmt.Println("stored the grant of", grant.Scope)
	}

	// What the browser does:
	fmt.Println(strings.HasPrefix(config.AuthCodeURL("acme.bitrix24.com", "unguessable"), "https://acme.bitrix24.com/oauth/authorize/?client_id="))
	callback(httptest.NewRecorder(), httptest.NewRequest("GET", "/callback?state=unguessable&code="+srv.Code(), nil))
	// Output:
	// true
	// stored the grant of crm,entity,im,task
}

// A new installation replaces a grant that is dead, and whoever had given up
// on the old one goes on.
func ExampleConfig_Save() {
	run := func() error {
		srv := b24test.NewServer()
		defer srv.Close()
		ctx := context.Background()
		config := srv.Config()
		if err := config.Save(ctx, "acme", srv.Install()); err != nil {
			return err
		}
		source := config.TokenSource("acme")

		srv.KillGrants()
		srv.ExpireAccessTokens()
		if resp, err := config.Client("acme").Get(srv.Endpoint() + "profile"); err == nil {
			resp.Body.Close()
		} else {
			fmt.Println("dead:", errors.Is(err, b24oauth.ErrReauthorize))
		}

		if err := config.Save(ctx, "acme", srv.Install()); err != nil {
			return err
		}
		_, err := source.Token()
		fmt.Println("revived:", err == nil)
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// dead: true
	// revived: true
}

// A portal that nobody calls for 30 days is lost. A job that runs once a day sees to
// it, and tells which portals are lost already.
func ExampleConfig_KeepAlive() {
	srv := b24test.NewServer()
	defer srv.Close()
	ctx := context.Background()
	config := srv.Config()
	config.Store = new(b24oauth.MemoryStore)
	for _, key := range []string{"acme", "emca"} {
		grant := srv.Install()
		if key == "emca" {
			grant.Issued = grant.Issued.Add(-25 * 24 * time.Hour) // as if nobody had called since
			grant.Expiry = grant.Expiry.Add(-25 * 24 * time.Hour)
		}
		if err := config.Save(ctx, key, grant); err != nil {
			fmt.Println(err)
			return
		}
	}

	for key, err := range config.KeepAlive(ctx, 20*24*time.Hour) {
		switch {
		case errors.Is(err, b24oauth.ErrReauthorize):
			fmt.Println(key, "has to be authorized again:", err)
		case err != nil:
			fmt.Println(key, err)
		default:
			fmt.Println(key, "was renewed")
		}
	}
	// Output: emca was renewed
}

// A request that got no token ends in a TokenError: its kind says who has to
// act, its text what to do.
func ExampleTokenError() {
	run := func() error {
		srv := b24test.NewServer()
		defer srv.Close()
		ctx := context.Background()
		config := srv.Config()
		if err := config.Save(ctx, "acme", srv.Install()); err != nil {
			return err
		}
		srv.ExpireAccessTokens()
		srv.ExpireRefreshTokens() // nobody called for a month

		_, err := config.Client("acme").Get(srv.Endpoint() + "profile")
		var tokenErr *b24oauth.TokenError
		switch {
		case !errors.As(err, &tokenErr):
			fmt.Println("the portal could not be reached:", err)
		case errors.Is(err, b24oauth.ErrReauthorize):
			fmt.Println("ask the customer to install again:", tokenErr.Key, tokenErr.Code)
		case tokenErr.Permanent():
			fmt.Println("tell the operator:", tokenErr)
		default:
			fmt.Println("try again later:", tokenErr)
		}
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
	// Output: ask the customer to install again: acme expired_token
}
