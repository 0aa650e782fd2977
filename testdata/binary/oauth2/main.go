// Command oauth2 does with golang.org/x/oauth2 what ours does, for the size of
// it.
package main

import (
	"context"
	"log"
	"net/url"
	"os"

	"golang.org/x/oauth2"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx := context.Background()
	config := &oauth2.Config{
		ClientID:     os.Getenv("BITRIX24_CLIENT_ID"),
		ClientSecret: os.Getenv("BITRIX24_CLIENT_SECRET"),
		Endpoint:     oauth2.Endpoint{TokenURL: "https://oauth.bitrix.info/oauth/token/"},
	}
	client := config.Client(ctx, &oauth2.Token{RefreshToken: os.Getenv("REFRESH_TOKEN")})
	resp, err := client.PostForm("https://example.bitrix24.com/rest/crm.deal.list", url.Values{"filter[STAGE_ID]": {"NEW"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
