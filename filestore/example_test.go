package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

func Example() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// none stored: true
	// example.bitrix24.com is the portal a223c6b3710f85df22e9377d6c4f7553
}

func run() error {
	dir, err := os.MkdirTemp("", "grants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	store, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	_, err = store.Load(ctx, "example.bitrix24.com")
	fmt.Println("none stored:", errors.Is(err, b24oauth.ErrNoGrant))

	// What came from an installation. A program that renews tokens leaves
	// all this to the b24oauth.Config that the Store is given to.
	err = store.Update(ctx, "example.bitrix24.com", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return &b24oauth.Grant{MemberID: "a223c6b3710f85df22e9377d6c4f7553", AccessToken: "…", RefreshToken: "…"}, nil
	})
	if err != nil {
		return err
	}
	for key, err := range store.Keys(ctx) {
		if err != nil {
			return err
		}
		grant, err := store.Load(ctx, key)
		if err != nil {
			return err
		}
		fmt.Println(key, "is the portal", grant.MemberID)
	}
	return nil
}
