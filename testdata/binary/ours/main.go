// Command ours is the README's program, as far as its size goes.
package main

import (
	"context"
	"errors"
	"log"
	"net/url"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() (err error) {
	config, err := b24oauth.ConfigFromEnv()
	if err != nil {
		return err
	}
	if config.Store, err = filestore.Open("/var/lib/example/grants"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Flush(context.Background())) }()

	client := config.Client("example")
	resp, err := client.PostForm("https://example.bitrix24.com/rest/crm.deal.list", url.Values{"filter[STAGE_ID]": {"NEW"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
