package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

// With the driver github.com/jackc/pgx/v5/stdlib imported. For MySQL and
// MariaDB it is sql.Open("mysql", …) and sqlstore.MySQL.
func Example() {
	run := func() (err error) {
		db, err := sql.Open("pgx", "postgres://example@db.example.com/example")
		if err != nil {
			return err
		}
		defer db.Close() // after Flush, which saves into it
		ctx := context.Background()
		store := sqlstore.New(db, sqlstore.PostgreSQL)
		if err := store.CreateTable(ctx); err != nil {
			return err
		}
		config := &b24oauth.Config{ClientID: "…", ClientSecret: "…", Store: store}
		defer func() { err = errors.Join(err, config.Flush(ctx)) }()
		// What the program does with config.Client(key).
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func ExampleStore_Keys() {
	run := func() error {
		db, err := sql.Open("sqlite", "file:grants.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
		if err != nil {
			return err
		}
		defer db.Close()
		for key, err := range sqlstore.New(db, sqlstore.SQLite).Keys(context.Background()) {
			if err != nil {
				return err
			}
			fmt.Println(key)
		}
		return nil
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
