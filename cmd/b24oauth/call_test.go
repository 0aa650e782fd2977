package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/filestore"
)

// full is an output on a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnOutputThatTakesNothingIsNoFaultOfThePortals(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	t.Setenv("BITRIX24_CLIENT_ID", srv.ClientID())
	t.Setenv("BITRIX24_CLIENT_SECRET", srv.ClientSecret())
	t.Setenv("BITRIX24_TOKEN_URL", srv.TokenURL())
	dir := t.TempDir()
	t.Setenv("B24OAUTH_STORE", "file:"+dir)
	c := srv.Config()
	var err error
	if c.Store, err = filestore.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), "example", srv.Install()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"call", "example", "profile"},
		{"token", "example"},
		{"status"},
		{"status", "--json"},
		{"list"},
		{"list", "--json"},
		{"check", "example"},
		{"export", "--plain"},
		{"keepalive"},
	} {
		var errOut bytes.Buffer
		if status := run(t.Context(), args, nil, full{}, &errOut); status != 1 || !strings.Contains(errOut.String(), "no space left") || strings.Contains(errOut.String(), "broke off") {
			t.Errorf("%q: status %d: %s", args, status, errOut.String())
		}
	}
}
