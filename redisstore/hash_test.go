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
	settle(t, s, theKey)
	got := fieldsOf(t, c, name)

	if !strings.HasSuffix(got["writes"], before["writes"]) || got["writes"] == before["writes"] {
		t.Errorf("the names of the writes are %q, after %q; want one more", got["writes"], before["writes"])
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
		"nonce": g.Fence(), "updated_at": got["updated_at"], "writes": got["writes"],
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
	settle(t, s, theKey)
	if fields := fieldsOf(t, c, name); len(fields) != 0 {
		t.Errorf("after an Update that stored nothing the hash is %v; want none", fields)
	}
}

func TestAPurgeIsForgottenInTime(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	put(t, s, theKey, numbered(1))
	remove(t, s)
	settle(t, s, theKey)
	if fields := fieldsOf(t, c, name); len(fields) != 1 || fields["writes"] == "" {
		t.Errorf("after a purge the hash is %v; want the writes alone", fields)
	}
	if ttl := c.TTL(t.Context(), name).Val(); ttl <= 0 || ttl > 2*time.Minute {
		t.Errorf("what a purge leaves expires in %v; want a little more than the lease", ttl)
	}
	put(t, s, theKey, numbered(2))
	if ttl := c.TTL(t.Context(), name).Val(); ttl != -1 {
		t.Errorf("a grant stored after a purge expires in %v", ttl)
	}
	wantNumber(t, s, theKey, 2)
}

func TestATombstoneDoesNotExpire(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	tombstone := &b24oauth.Grant{MemberID: "member", Deleted: time.Now(), Lineage: b24oauth.Lineage{Root: 7}}
	for what, before := range map[string]func(){
		"over a grant": func() { put(t, s, theKey, numbered(1)) },
		"over nothing": func() { remove(t, s) },
	} {
		before()
		put(t, s, theKey, tombstone)
		if ttl := c.TTL(t.Context(), name).Val(); ttl != -1 {
			t.Errorf("a tombstone %s expires in %v", what, ttl)
		}
		if fence := fieldsOf(t, c, name)["nonce"]; fence != "deleted-0000000000000007" {
			t.Errorf("the fence of a tombstone %s is %q", what, fence)
		}
	}
}

// Hashes that an earlier form left have a random fence, of each write.
func TestAHashOfTheFormBeforeIsGood(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	form, err := numbered(1).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	old := []any{"grant", form, "nonce", "RANDOM", "version", "4", "member_id", "member", "inherited", "1", "owner", "dead", "lease_until", "1"}
	c.HSet(t.Context(), name, old...)
	c.HSet(t.Context(), nameOf(t, s, "deleted"), "nonce", "RANDOM")
	for key, err := range s.Keys(t.Context()) {
		if key != theKey || err != nil {
			t.Errorf("Keys yields %q, %v; want %s alone", key, err, theKey)
		}
	}
	wantNumber(t, s, theKey, 1)
	err = s.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
		c.HSet(ctx, name, "nonce", "of another write")
		return numbered(2), nil
	})
	if !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update whose fence has changed = %v; want ErrConflict", err)
	}
	put(t, s, theKey, numbered(2))
	wantNumber(t, s, theKey, 2)
	if fields := fieldsOf(t, c, name); fields["nonce"] != numbered(2).Fence() || fields["version"] != "5" {
		t.Errorf("after a write the hash is %v; want the fence and version 5", fields)
	}
	put(t, s, "deleted", numbered(3))
	wantNumber(t, s, "deleted", 3)
}

// What came and went is no change to who was given nothing: nothing is stored.
func TestWhoWasGivenNothingInsertsIfNothingIsStored(t *testing.T) {
	s, c := openTest(t)
	other := newStore(c, s.Prefix)
	s.Lease = 50 * time.Millisecond
	for what, meanwhile := range map[string]func(){
		"a grant came and was purged": func() {
			put(t, other, theKey, numbered(1))
			remove(t, other)
		},
		"the hash has expired": func() { c.Del(t.Context(), nameOf(t, other, theKey)) },
	} {
		remove(t, other)
		err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g != nil {
				t.Errorf("%s: fn is given %v; want nil", what, g)
			}
			meanwhile()
			return numbered(2), nil
		})
		if err != nil {
			t.Errorf("%s: Update = %v", what, err)
		}
		wantNumber(t, other, theKey, 2)
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

// The Redis was emptied. Whose pair it is finds that out, and writes it back
// as one who was given nothing.
func TestASaveDoesNotBringBackAHashThatIsGone(t *testing.T) {
	s, c := openTest(t)
	put(t, s, theKey, numbered(1))
	err := s.Update(t.Context(), theKey, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
		c.Del(ctx, nameOf(t, s, theKey))
		return numbered(2), nil
	})
	if !errors.Is(err, b24oauth.ErrConflict) {
		t.Errorf("Update of a grant that is gone = %v; want ErrConflict", err)
	}
	if _, err := s.Load(t.Context(), theKey); !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load = %v; want ErrNoGrant", err)
	}
	put(t, s, theKey, numbered(2))
	wantNumber(t, s, theKey, 2)
}

func TestADamagedGrantIsAnErrorAndLeftAsItIs(t *testing.T) {
	s, c := openTest(t)
	name := nameOf(t, s, theKey)
	put(t, s, theKey, numbered(1))
	settle(t, s, theKey)
	c.HSet(t.Context(), name, "grant", `{"access_token":"hush`)
	before := fieldsOf(t, c, name)
	_, loadErr := s.Load(t.Context(), theKey)
	updateErr := s.Update(t.Context(), theKey, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called with a damaged grant")
		return nil, nil
	})
	settle(t, s, theKey)
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
