package compose

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// portal is a portal with an application that has a grant under "example".
func portal() (*b24test.Server, *b24oauth.Config) {
	srv := b24test.NewServer()
	config := srv.Config()
	config.Store = new(b24oauth.MemoryStore)
	if err := config.Save(context.Background(), "example", srv.Install()); err != nil {
		panic(err)
	}
	return srv, config
}

// transport is b24oauth's own, over http.DefaultTransport.
func transport(config *b24oauth.Config) *b24oauth.Transport {
	return &b24oauth.Transport{Source: config.TokenSource("example")}
}

// call posts to a method and returns the answer's status and body.
func call(client *http.Client, srv *b24test.Server, method string) (int, string) {
	resp, err := client.Post(srv.Endpoint()+method, "application/x-www-form-urlencoded", strings.NewReader("start=0"))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// secrets are what nobody but the portal and its authorization server may see by now.
func secrets(srv *b24test.Server) []string {
	s := []string{srv.ClientSecret()}
	for _, r := range srv.Requests() {
		if r.Auth != "" {
			s = append(s, r.Auth)
		}
	}
	return s
}

// wantNoSecret fails if a text has one of them.
func wantNoSecret(t *testing.T, srv *b24test.Server, text string) {
	t.Helper()
	for _, s := range secrets(srv) {
		if strings.Contains(text, s) {
			t.Errorf("a secret is told in %s", text)
		}
	}
}
