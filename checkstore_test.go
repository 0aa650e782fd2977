package b24oauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// updating is a Store whose Update is a function.
type updating struct {
	b24oauth.MemoryStore
	update func() error
}

func (s *updating) Update(context.Context, string, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	return s.update()
}

func TestCheckStoreLeavesNothingBehind(t *testing.T) {
	srv := b24test.NewServer()
	defer srv.Close()
	c := srv.Config()
	store := new(b24oauth.MemoryStore)
	c.Store = store
	for range 2 {
		if err := c.CheckStore(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for key, err := range store.Keys(t.Context()) {
		t.Errorf("the Store has %q, %v", key, err)
	}
	if n := len(srv.TokenRequests()) + len(srv.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestCheckStoreSaysWhoHasToActForAStoreThatTakesNothing(t *testing.T) {
	const secret = "the-client-secret"
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, test := range []struct {
		name   string
		ctx    context.Context
		update func() error
		want   error
	}{
		{"that fails", t.Context(), func() error { return errors.New("the disk is full: " + secret) }, b24oauth.ErrUnavailable},
		{"that is set up wrong", t.Context(), func() error { return errors.Join(errors.New("no table"), b24oauth.ErrMisconfigured) }, b24oauth.ErrMisconfigured},
		{"that panics", t.Context(), func() error { panic(secret) }, b24oauth.ErrUnavailable},
		{"that is waited for no longer", gone, func() error { return gone.Err() }, context.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &b24oauth.Config{ClientID: "local.example", ClientSecret: secret, Store: &updating{update: test.update}}
			err := c.CheckStore(test.ctx)
			if !errors.Is(err, test.want) {
				t.Errorf("the error is %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}
