package b24oauth_test

import (
	"context"
	"errors"
	"log"
	"net/url"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

// A program of its own: the application's credentials from the environment, its
// grants in a directory, and a client.
func ExampleConfigFromEnv() {
	if err := run(); err != nil {
		log.Fatal(err) // here, not in run: it would skip the Flush
	}
}

func run() (err error) {
	config, err := b24oauth.ConfigFromEnv() // BITRIX24_CLIENT_ID, BITRIX24_CLIENT_SECRET
	if err != nil {
		return err
	}
	if config.Store, err = filestore.Open("/var/lib/example/grants"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Flush(context.Background())) }() // waits for renewals in flight

	client := config.Client("example") // a plain *http.Client; "example" is the grant's key
	resp, err := client.PostForm("https://example.bitrix24.com/rest/crm.deal.list", url.Values{"filter[STAGE_ID]": {"NEW"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
