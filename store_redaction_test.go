package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

func TestGuarantee8StoreThatQuotesATokenIsNotQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		var mu sync.Mutex // guards told
		var told []error
		tell := func(errs ...error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, errs...)
		}
		p := newProgram(t, func(c *b24oauth.Config) {
			c.Store = store
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { tell(e.Err) }
		})
		g := p.Install()
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		secrets := []string{g.AccessToken, g.RefreshToken, g.ApplicationToken}

		// It quotes what is stored when it is asked, and the new pair when it is to save it.
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			next, err := fn(ctx, g)
			if err != nil {
				return err
			}
			secrets = append(secrets, next.AccessToken, next.RefreshToken)
			return fmt.Errorf("bad values %q, %q for %w", next.RefreshToken, next.AccessToken, errDown)
		})
		token(t, p.source)
		tell(p.config.Flush(t.Context()))
		store.onUpdate(nil)

		p.restart(func(c *b24oauth.Config) { c.Store = store })
		store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return g, nil })
		token := p.config.TokenSource(key)
		store.onUpdate(func(context.Context, updateFunc) error { return errors.New("bad value " + g.RefreshToken) })
		_, err := token.Token()
		tell(err, p.config.Save(t.Context(), key, g))
		synctest.Wait()

		failures := 0
		for _, err := range told {
			for _, e := range everyLevel(err) {
				failures++
				for _, secret := range secrets {
					if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, secret) {
						t.Errorf("quotes a token: %s", text)
					}
				}
			}
		}
		if failures < 4 {
			t.Errorf("%d errors seen, want those of saving, Flush, Token and Save", failures)
		}
	})
}
