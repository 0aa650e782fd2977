package stores_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/stores"
)

const secret = "planted-password"

// Each kind of Store takes a grant and lists it. What needs a server is left out
// where scripts/services has not started one.
func TestEveryKindOfStoreKeepsAGrant(t *testing.T) {
	for _, test := range []struct {
		name    string
		address func(*testing.T) (address, password string)
	}{
		{"file", func(t *testing.T) (string, string) { return "file:" + t.TempDir(), "" }},
		{"sqlite", func(t *testing.T) (string, string) { return "sqlite:" + t.TempDir() + "/the grants?.db", "" }},
		{"postgres", func(t *testing.T) (string, string) { return withoutPassword(t, server(t, "B24OAUTH_TEST_POSTGRES")) }},
		{"mysql", mysqlAddress},
		{"redis", func(t *testing.T) (string, string) {
			return "redis://" + redisHost(server(t, "B24OAUTH_TEST_REDIS")), ""
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, password := test.address(t)
			s, err := stores.Open(address, password)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.CreateTable != nil {
				if err := s.CreateTable(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			key := "stores-test-" + t.Name()
			g := &b24oauth.Grant{AccessToken: "a", RefreshToken: "r"}
			if err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil }); err != nil {
				t.Fatal(err)
			}
			defer s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				return nil, b24oauth.ErrDelete
			})
			if got, err := s.Load(t.Context(), key); err != nil || got.RefreshToken != "r" {
				t.Errorf("the Store has %v, %v", got, err)
			}
			found := false
			for k, err := range s.Keys(t.Context()) {
				found = found || err == nil && k == key
			}
			if !found {
				t.Error("the key is not listed")
			}
		})
	}
}

func server(t *testing.T, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	if address == "" {
		t.Skipf("%s is not set: eval \"$(scripts/services)\" starts the servers", variable)
	}
	return address
}

func withoutPassword(t *testing.T, address string) (string, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address is no URL")
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	return u.String(), password
}

func mysqlAddress(t *testing.T) (string, string) {
	c, err := mysql.ParseDSN(server(t, "B24OAUTH_TEST_MYSQL"))
	if err != nil {
		t.Fatal("the server's address is no DSN")
	}
	u := url.URL{Scheme: "mysql", User: url.User(c.User), Host: c.Addr, Path: "/" + c.DBName}
	if c.Net == "unix" {
		u.Host, u.RawQuery = "", url.Values{"socket": {c.Addr}}.Encode()
	}
	return u.String(), c.Passwd
}

func redisHost(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, cmp.Or(port, "6379"))
}

func TestAURLThatCannotBeUsedIsRefusedWithoutQuotingAPassword(t *testing.T) {
	for _, address := range []string{
		"",
		"grants",
		"file:",
		"file://host/dir",
		"sqlite:",
		"sqlite://host/file",
		"oracle://user@host/db",
		"postgres://user:" + secret + "@host/db",
		"postgres://host/db?user=me&password=" + secret,
		"postgres://host/db?sslpassword=" + secret,
		"postgres://user:" + secret + "@ho st/db",
		"host=h user=u password=" + secret,
		"user:" + secret + "@tcp(127.0.0.1:3306)/db",
		"mysql://user:" + secret + "@host/db",
		"mysql://user@host/db?multiStatements=perhaps",
		"redis://:" + secret + "@host/0",
		"redis://host/0?PASSWORD=" + secret,
		"rediss://host/zero",
	} {
		s, err := stores.Open(address, "")
		if err == nil {
			t.Errorf("%q: opened %v", address, s)
			continue
		}
		if _, ok := errors.AsType[*stores.URLError](err); !ok {
			t.Errorf("%q: %v is no URLError", address, err)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestSealKeysAreReadInBothForms(t *testing.T) {
	file := t.TempDir() + "/key"
	for content, want := range map[string]int{
		strings.Repeat("0f", 32) + "\n": 1,
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\r\n\n" + strings.Repeat("aa", 32) + " ": 2,
		"":                                       0,
		"\n \n":                                  0,
		strings.Repeat("0f", 31) + "\n":          0,
		strings.Repeat("0f", 32) + "\n" + secret: 0,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := stores.ReadKeys(file)
		if len(keys) != want || (err == nil) != (want > 0) {
			t.Errorf("%q has %d keys, %v; want %d", content, len(keys), err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
}
