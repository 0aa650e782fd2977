package sealedstore_test

import (
	"context"
	"crypto/cipher"
	"fmt"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sealedstore"
)

// Instances are replaced one after the other, so those of a step and of the
// step before run side by side over one Store: each must read what any of the
// others writes.
func TestKeyIsChangedWhileInstancesOfTwoStepsRunSideBySide(t *testing.T) {
	beneath := new(b24oauth.MemoryStore)
	steps := []struct {
		name string
		keys string // the first writes
	}{
		{"the old key", "a"},
		{"the new key reads", "ab"},
		{"the new key writes", "ba"},
		{"the new key alone", "b"},
	}
	instance := func(keys string) *sealedstore.Store {
		var aeads []cipher.AEAD
		for _, letter := range strings.Split(keys, "") {
			aeads = append(aeads, gcm(t, letter))
		}
		return sealedstore.New(beneath, aeads[0], aeads[1:]...)
	}
	renewals := 0
	renew := func(s *sealedstore.Store) error {
		return s.Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g != nil && g.RefreshToken != fmt.Sprint("refresh ", renewals) {
				t.Errorf("fn is given %q after %d renewals", g.RefreshToken, renewals)
			}
			renewals++
			return &b24oauth.Grant{AccessToken: fmt.Sprint("access ", renewals), RefreshToken: fmt.Sprint("refresh ", renewals)}, nil
		})
	}
	for i := range steps[1:] {
		before, after := steps[i], steps[i+1]
		for range 2 { // each reads what the other has written
			for _, step := range []string{before.keys, after.keys} {
				if err := renew(instance(step)); err != nil {
					t.Errorf("from %q to %q: an instance with the keys %q: %v", before.name, after.name, step, err)
				}
			}
		}
	}
	// A step left out is what the two are for.
	if err := renew(instance("ba")); err != nil {
		t.Error(err)
	}
	if _, err := instance("a").Load(t.Context(), key); err == nil {
		t.Error("an instance of before the first step reads what the new key wrote: is it encrypted?")
	}
}
