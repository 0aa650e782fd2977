// Package setuptest has what the tests of our Stores need to check that a
// mistake in the setup is told by whatever meets it.
package setuptest

import (
	"context"
	"errors"

	"github.com/b24go/b24oauth"
)

// Calls returns those of a Store, and of a Config on it, that ask the Store about
// the grant under key.
func Calls(key string) map[string]func(context.Context, *b24oauth.Config) error {
	return map[string]func(context.Context, *b24oauth.Config) error{
		"Load": func(ctx context.Context, c *b24oauth.Config) error {
			_, err := c.Store.Load(ctx, key)
			return err
		},
		"Update": func(ctx context.Context, c *b24oauth.Config) error {
			return c.Store.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil })
		},
		"Keys": func(ctx context.Context, c *b24oauth.Config) (err error) {
			for _, e := range c.Keys(ctx) {
				err = errors.Join(err, e)
			}
			return err
		},
		"Token": func(ctx context.Context, c *b24oauth.Config) error {
			_, err := c.TokenSource(key).TokenContext(ctx)
			return err
		},
		"Grant": func(ctx context.Context, c *b24oauth.Config) error {
			_, err := c.TokenSource(key).Grant(ctx)
			return err
		},
		"Save": func(ctx context.Context, c *b24oauth.Config) error {
			return c.Save(ctx, key, &b24oauth.Grant{RefreshToken: "another"})
		},
		"Delete": func(ctx context.Context, c *b24oauth.Config) error { return c.Delete(ctx, key) },
	}
}
