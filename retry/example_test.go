package retry_test

import (
	"context"
	"fmt"
	"net/url"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/retry"
)

// A call that the portal's gateway has answered with 502 is sent again if it only
// reads; one that writes is not, since the portal may have executed it.
func ExamplePolicy_Client() {
	srv := b24test.NewServer()
	defer srv.Close()
	config := srv.Config()
	config.Store = new(b24oauth.MemoryStore)
	if err := config.Save(context.Background(), "example", srv.Install()); err != nil {
		fmt.Println(err)
		return
	}

	client := new(retry.Policy).Client(config.Client("example"))
	for _, method := range []string{"crm.deal.list", "crm.deal.add"} {
		srv.RefuseNext(1, b24test.Answer{Status: 502})
		resp, err := client.PostForm(srv.Endpoint()+method, url.Values{"fields[TITLE]": {"A deal"}})
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(method, resp.StatusCode)
	}
	// Output:
	// crm.deal.list 200
	// crm.deal.add 502
}
