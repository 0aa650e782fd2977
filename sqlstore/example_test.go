package sqlstore_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sqlstore"
)

// With the driver github.com/jackc/pgx/v5/stdlib imported. For MySQL and
// MariaDB it is sql.Open("mysql", …) and sqlstore.MySQL.
func Example() {
	db, err := sql.Open("pgx", "postgres://example@db.example.com/example")
	if err != nil {
		log.Fatal(err)
	}
	store := sqlstore.New(db, sqlstore.PostgreSQL)
	if err := store.CreateTable(context.Background()); err != nil {
		log.Fatal(err)
	}
	config := &b24oauth.Config{ClientID: "…", ClientSecret: "…", Store: store}
	defer config.Flush(context.Background())
}

func ExampleStore_Keys() {
	db, err := sql.Open("sqlite", "file:grants.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		log.Fatal(err)
	}
	for key, err := range sqlstore.New(db, sqlstore.SQLite).Keys(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		log.Print(key)
	}
}
