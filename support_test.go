package b24oauth_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// key is the name of the grant that most tests have.
const key = "portal"

// program is a program under test: a Config on the servers of b24test, with
// one grant stored.
type program struct {
	*b24test.Server
	config *b24oauth.Config
	source *b24oauth.TokenSource
	client *http.Client
}

// newProgram starts one in memory, so that it also runs in a synctest bubble.
func newProgram(t *testing.T, change ...func(*b24oauth.Config)) *program {
	t.Helper()
	srv := b24test.NewMemoryServer()
	t.Cleanup(srv.Close)
	p := &program{Server: srv}
	p.restart(change...)
	if err := p.config.Save(context.Background(), key, srv.Install()); err != nil {
		t.Fatal(err)
	}
	return p
}

// restart makes the Config anew, as a new process on the same Store does if
// change sets that.
func (p *program) restart(change ...func(*b24oauth.Config)) {
	p.config = p.Config()
	for _, f := range change {
		f(p.config)
	}
	p.source = p.config.TokenSource(key)
	p.client = &http.Client{Transport: &b24oauth.Transport{Source: p.source, Base: p.Client().Transport}}
}

// status returns a response's status and lets its connection go.
func status(t *testing.T, resp *http.Response, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
