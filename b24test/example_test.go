package b24test_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/b24go/b24oauth/b24test"
)

// A portal that ends a token before its time, as seen by a plain client.
func Example() {
	srv := b24test.NewServer()
	defer srv.Close()
	grant := srv.Install()

	call := func() {
		resp, err := srv.Client().Get(srv.Endpoint() + "crm.deal.list?filter[STAGE_ID]=NEW&auth=" + grant.AccessToken)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(resp.Body)
			fmt.Printf("%s\n", body)
			return
		}
		fmt.Println(resp.Status)
	}
	call()
	srv.ExpireAccessTokens()
	call()

	for _, r := range srv.Requests() {
		fmt.Printf("%s %s %v, token in the %s: %d %q\n", r.Method, r.Path, r.Params["filter"], r.AuthIn, r.Status, r.Code)
	}
	// Output:
	// 200 OK
	// {"error":"expired_token","error_description":"The access token provided has expired."}
	// GET /rest/crm.deal.list map[STAGE_ID:NEW], token in the query: 200 ""
	// GET /rest/crm.deal.list map[STAGE_ID:NEW], token in the query: 401 "expired_token"
}

// What the authorization server does is up to the test.
func ExampleServer_FailTokens() {
	srv := b24test.NewServer()
	defer srv.Close()
	srv.FailTokens(1, b24test.Answer{
		Status: http.StatusServiceUnavailable,
		Header: http.Header{"Retry-After": {"5"}},
		Body:   "<html>maintenance</html>",
	})
	for range 2 {
		resp, err := srv.Client().Get(srv.TokenURL() + "?client_id=unknown")
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%d %s\n", resp.StatusCode, body)
	}
	// Output:
	// 503 <html>maintenance</html>
	// 200 {"error":"wrong_client"}
}

// A token that the portal ends before its time costs the program one refresh
// and no error.
func ExampleServer_Config() {
	srv := b24test.NewServer()
	defer srv.Close()
	config := srv.Config()
	if err := config.Save(context.Background(), "portal", srv.Install()); err != nil {
		fmt.Println(err)
		return
	}
	client := srv.HTTPClient(config, "portal")

	srv.ExpireAccessTokens()
	resp, err := client.Get(srv.Endpoint() + "crm.deal.list?filter[STAGE_ID]=NEW")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()

	fmt.Println(resp.Status, "after", srv.Refusals(), "refusal and", srv.Refreshes(), "refresh")
	for _, r := range srv.Requests() {
		fmt.Println(r.Method, r.Path, r.Params["filter"], r.Status)
	}
	// Output:
	// 200 OK after 1 refusal and 1 refresh
	// GET /rest/crm.deal.list map[STAGE_ID:NEW] 401
	// GET /rest/crm.deal.list map[STAGE_ID:NEW] 200
}

// A portal to develop against, in a program of one's own, which tells what arrives.
func ExampleListen() {
	srv, err := b24test.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()
	srv.Watch(func(r b24test.Request) { fmt.Println(r.Method, r.Path, r.Status, r.Code) })

	grant := srv.Install()
	resp, err := http.Get(srv.Endpoint() + "crm.deal.list?auth=" + grant.AccessToken)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output:
	// GET /rest/crm.deal.list 200
}
