package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/redisstore"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

func fieldsOf(t *testing.T, c *redis.Client, name string) map[string]string {
	t.Helper()
	fields, err := c.HGetAll(t.Context(), name).Result()
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func remove(t *testing.T, s *redisstore.Store) {
	t.Helper()
	if err := s.Update(t.Context(), theKey, returning(nil, b24oauth.ErrDelete)); err != nil {
		t.Fatalf("Update that deletes = %v", err)
	}
}

func TestAPersonCanReadTheHash(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	put(t, s, theKey, numbered(1))
	before := fieldsOf(t, c, name)
	g := numbered(2)
	g.Expiry = time.Date(2026, 10, 25, 2, 30, 0, 0, time.FixedZone("", 3600))
	put(t, s, theKey, g)
	got := fieldsOf(t, c, name)

	if got["nonce"] == "" || got["nonce"] == before["nonce"] {
		t.Errorf("the nonces of two writes are %q and %q; want two", before["nonce"], got["nonce"])
	}
	if at, err := time.Parse(time.RFC3339, got["updated_at"]); err != nil || time.Since(at) > time.Minute {
		t.Errorf("updated_at is %q; want now", got["updated_at"])
	}
	form, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"grant": string(form), "version": "2", "member_id": "member", "domain": "example.bitrix24.com", "expiry": "2026-10-25T01:30:00Z",
		"nonce": got["nonce"], "updated_at": got["updated_at"],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hash of a grant (-want +got):\n%s", diff)
	}
	if ttl := c.TTL(t.Context(), name).Val(); ttl != -1 {
		t.Errorf("the hash of a grant expires in %v", ttl)
	}
}

func TestALeaseWithoutAGrantDoesNotStay(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	err := s.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
		fields := fieldsOf(t, c, name)
		if fields["owner"] == "" || fields["lease_until"] == "" {
			t.Errorf("while fn runs the hash is %v; want an owner and the end of the lease", fields)
		}
		if ttl := c.TTL(ctx, name).Val(); ttl <= 30*time.Second || ttl > 2*time.Minute {
			t.Errorf("the hash expires in %v; want a little more than the lease", ttl)
		}
		if _, err := s.Load(ctx, theKey); !errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("Load of a key with a lease alone = %v; want ErrNoGrant", err)
		}
		for key, err := range s.Keys(ctx) {
			t.Errorf("Keys yields %q, %v for a lease without a grant", key, err)
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fields := fieldsOf(t, c, name); len(fields) != 0 {
		t.Errorf("after an Update that stored nothing the hash is %v; want none", fields)
	}
}

func TestADeletionIsForgottenInTime(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	put(t, s, theKey, numbered(1))
	remove(t, s)
	if fields := fieldsOf(t, c, name); len(fields) != 1 || fields["nonce"] == "" {
		t.Errorf("after a deletion the hash is %v; want a nonce alone", fields)
	}
	if ttl := c.TTL(t.Context(), name).Val(); ttl <= 0 || ttl > 2*time.Minute {
		t.Errorf("what a deletion leaves expires in %v; want a little more than the lease", ttl)
	}
	put(t, s, theKey, numbered(2))
	if ttl := c.TTL(t.Context(), name).Val(); ttl != -1 {
		t.Errorf("a grant stored after a deletion expires in %v", ttl)
	}
	wantNumber(t, s, theKey, 2)
}

// The Update that was given nothing is late; meanwhile the key is used.
func TestAGrantThatCameAndWentIsAChange(t *testing.T) {
	s, c := openTest(t)
	other := newStore(c, s.Prefix)
	s.Lease = 50 * time.Millisecond
	for name, meanwhile := range map[string]struct {
		do   func()
		want error
	}{
		"came and went": {func() {
			put(t, other, theKey, numbered(1))
			remove(t, other)
		}, b24oauth.ErrConflict},
		"note expired": {func() { c.Del(t.Context(), nameOf(t, s, theKey)) }, nil},
	} {
		// A deletion not long ago, whose note the late one is given.
		put(t, other, theKey, numbered(1))
		remove(t, other)
		err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			meanwhile.do()
			return numbered(2), nil
		})
		if !errors.Is(err, meanwhile.want) {
			t.Errorf("%s: Update = %v; want %v", name, err, meanwhile.want)
		}
		if meanwhile.want == nil {
			wantNumber(t, other, theKey, 2)
		} else if _, err := other.Load(t.Context(), theKey); !errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("%s: Load = %v; want ErrNoGrant", name, err)
		}
	}
}

func TestALateHolderLeavesItsSuccessorTheLease(t *testing.T) {
	s, c := openTest(t)
	other := newStore(c, s.Prefix)
	s.Lease = 50 * time.Millisecond
	held, end, ended := make(chan bool), make(chan bool), make(chan error, 1)
	err := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		go func() {
			ended <- other.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
				close(held)
				<-end
				return numbered(2), nil
			})
		}()
		await(t, held, "the successor")
		return nil, nil
	})
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Update(ctx, theKey, returning(numbered(3), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update while the successor holds the lease = %v; want it to wait", err)
	}
	close(end)
	if err := await(t, ended, "the successor's end"); err != nil {
		t.Errorf("the successor's Update = %v", err)
	}
	wantNumber(t, other, theKey, 2)
}

func TestAGrantRemovedByHandStaysRemoved(t *testing.T) {
	s, c := openTest(t)
	put(t, s, theKey, numbered(1))
	err := s.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
		c.Del(ctx, nameOf(t, s, theKey))
		return numbered(2), nil
	})
	if !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update of a grant that was removed = %v; want ErrConflict", err)
	}
	if _, err := s.Load(t.Context(), theKey); !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v; want ErrNoGrant", err)
	}
}

func TestADamagedGrantIsAnErrorAndLeftAsItIs(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	put(t, s, theKey, numbered(1))
	c.HSet(t.Context(), name, "grant", `{"access_token":"hush`)
	before := fieldsOf(t, c, name)
	_, loadErr := s.Load(t.Context(), theKey)
	updateErr := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called with a damaged grant")
		return nil, nil
	})
	for _, err := range []error{loadErr, updateErr} {
		if err == nil || errors.Is(err, b24oauth.ErrNoGrant) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hush") {
			t.Errorf("error %v; want one that names the hash and quotes nothing of it", err)
		}
	}
	if diff := cmp.Diff(before, fieldsOf(t, c, name)); diff != "" {
		t.Errorf("the damaged hash has changed (-want +got):\n%s", diff)
	}
}

func TestKeysKeepsToItsPrefix(t *testing.T) {
	_, c := openTest(t)
	base := newPrefix(t, c)
	prefixes := []string{base, base + "*", base + "?[a-z]", base + `\`, base + "{x}", base + "{"}
	for _, prefix := range prefixes {
		put(t, newStore(c, prefix), "key of "+prefix, numbered(1))
	}
	c.Set(t.Context(), base+"{string}", "of somebody else", time.Minute)
	c.HSet(t.Context(), base+"hash", "grant", "of somebody else")
	for _, prefix := range prefixes {
		var got []string
		for key, err := range newStore(c, prefix).Keys(t.Context()) {
			if err != nil {
				t.Fatalf("prefix %q: Keys yields %v", prefix, err)
			}
			got = append(got, key)
		}
		if diff := cmp.Diff([]string{"key of " + prefix}, got); diff != "" {
			t.Errorf("prefix %q: Keys (-want +got):\n%s", prefix, diff)
		}
	}
}
