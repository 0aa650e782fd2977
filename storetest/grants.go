package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// full returns a grant with something in every field, so that a field that
// Grant gets one day is checked from that day.
func full(t testing.TB) *b24oauth.Grant {
	g := new(b24oauth.Grant)
	fillFields(t, reflect.ValueOf(g).Elem(), "Grant")
	return g
}

// fillFields puts something into every field of a struct, and of the structs in it.
func fillFields(t testing.TB, v reflect.Value, path string) {
	zone := time.FixedZone("", 5*60*60+30*60)
	for i := range v.NumField() {
		name := path + "." + v.Type().Field(i).Name
		text := name + " \"\\<&>\t\n\u2028 \u0416\u00e9 \U0001f511"
		switch f := v.Field(i); f.Addr().Interface().(type) {
		case *string:
			f.SetString(text)
		case *int64:
			f.SetInt(1<<53 + 1 + int64(i)) // more than a float64 holds
		case *uint64:
			f.SetUint(1<<63 + 1 + uint64(i))
		case *time.Time:
			f.Set(reflect.ValueOf(time.Date(2026, 10, 25, 2, 30, i, 123456789, zone)))
		case *[]string:
			f.Set(reflect.ValueOf([]string{text, "", "second " + text}))
		case *[]uint64:
			f.Set(reflect.ValueOf([]uint64{1, 1<<64 - 1, 1<<53 + 1}))
		case *b24oauth.Lineage, *b24oauth.Refusal:
			fillFields(t, f, name)
		default:
			t.Fatalf("storetest cannot fill %s, a %s: teach it to", name, f.Type())
		}
	}
}

func wantGrant(t testing.TB, got, want *b24oauth.Grant) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the grant that comes back differs (-stored +loaded):\n%s", diff)
	}
}

func everyField(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	living := full(t)
	living.Deleted = time.Time{}
	for _, g := range []*b24oauth.Grant{full(t), living} {
		put(t, s, theKey, g)
		wantGrant(t, load(t, s, theKey), g)
		wantGrant(t, load(t, other, theKey), g)
		h, given := hold(t, t.Context(), other, theKey)
		wantGrant(t, given.grant, g)
		if err := h.end(given.grant, nil); err != nil {
			t.Errorf("Update with the grant that fn was given = %v", err)
		}
		wantGrant(t, load(t, s, theKey), g)
	}
}

// verdicts writes what keeps the refresh token and is a change all the same:
// a verdict that is not stored costs every process a question.
func verdicts(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	put(t, s, theKey, numbered(1))
	for _, g := range []*b24oauth.Grant{
		refused(numbered(1)), numbered(1), // given, lifted
		refused(numbered(1)), numbered(2), // given, overridden
	} {
		put(t, s, theKey, g)
		wantGrant(t, load(t, other, theKey), g)
	}
}

// tombstones: a deletion that a Store does not keep is undone by the next
// process that still has the grant.
func tombstones(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	given := func(want *b24oauth.Grant, then *b24oauth.Grant) {
		t.Helper()
		h, c := hold(t, t.Context(), other, theKey)
		wantGrant(t, c.grant, want)
		if err := h.end(then, nil); err != nil {
			t.Errorf("Update = %v; want the grant stored", err)
		}
		wantGrant(t, load(t, s, theKey), then)
	}
	put(t, s, theKey, tombstone(1)) // over nothing
	wantGrant(t, load(t, other, theKey), tombstone(1))
	given(tombstone(1), tombstone(2))
	given(tombstone(2), numbered(1))
	given(numbered(1), tombstone(3))
	if err := s.Update(t.Context(), theKey, returning(nil, b24oauth.ErrDelete)); err != nil {
		t.Errorf("Update that purges a tombstone = %v", err)
	}
	wantNone(t, other, theKey)
}

func replacedWhole(t testing.TB, open func() b24oauth.Store) {
	s := open()
	put(t, s, theKey, full(t))
	for _, g := range []*b24oauth.Grant{{AccessToken: "only this"}, {RefreshToken: "or this"}} {
		put(t, s, theKey, g)
		wantGrant(t, load(t, s, theKey), g)
	}
}

// awkward are keys that a file system, a database's collation, a command line
// or an encoding may take for each other or for something else.
func awkward() []string {
	long := strings.Repeat("k", 1023)
	return []string{
		"a", "A", "a ", " a", "a.", ".a", "aa", "a\x00", "a\x00b", "a\n", "a\r\n", "a\t", "\x01", "\x7f",
		".", "..", "...", "/", "//", "a/b", "a//b", "/a", "../a", "../../a", "a/../b", `\`, `..\a`, `a\b`, `C:\a`, "C:a",
		"con", "CON", "nul.txt", "com1", "lpt9.json", "a.json", "a.lock", "a.tmp", "~", "~a",
		"%", "%%", "%2f", "%2F", "%00", "*", "?", "_", "-", "--help", "{a}", "a:b", "a{b}c", "a|b", "'", `"`, "`", "$a", "$(a)", ";", "--",
		"null", "NULL", "0", "00", "true",
		"\u00e9", "e\u0301", "\u00c9", "stra\u00dfe", "strasse", "STRASSE", "\u0131", "i", "I", "\u0130",
		"\u041f\u043e\u0440\u0442\u0430\u043b", "\u043f\u043e\u0440\u0442\u0430\u043b", "\u30dd\u30fc\u30bf\u30eb", "\U0001f511", "\u200d", "\ufeff", "\u202e",
		"\xff", "\xfe", "\xc3\x28", "\xed\xa0\x80", "\ufffd",
		long + "k", long + "K", long + "l", long, strings.ToUpper(long), strings.Repeat("\u0436", 512), strings.Repeat("/", 1024), strings.Repeat("..", 512),
	}
}

func anyKeys(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	for i, key := range awkward() {
		h, given := hold(t, t.Context(), s, key)
		if given.grant != nil {
			t.Errorf("fn for the new key %.80q was given grant %d, that of %.80q", key, given.grant.UserID, awkward()[given.grant.UserID-1])
		}
		if err := h.end(numbered(int64(i+1)), nil); err != nil {
			t.Fatalf("Update(%.80q) = %v", key, err)
		}
	}
	for i, key := range awkward() {
		wantNumber(t, other, key, int64(i+1))
	}
}

func largeGrant(t testing.TB, open func() b24oauth.Store) {
	s := open()
	g := full(t)
	g.Scope = strings.Repeat("crm,task,\u0416", 256<<10/11)
	put(t, s, theKey, g)
	wantGrant(t, load(t, open(), theKey), g)
	put(t, s, theKey, numbered(1))
	wantNumber(t, s, theKey, 1)
}

func noGrant(t testing.TB, open func() b24oauth.Store) {
	s := open()
	put(t, s, "another key", numbered(1))
	wantNone(t, s, theKey)
	h, given := hold(t, t.Context(), s, theKey)
	if given.grant != nil {
		t.Errorf("fn was given %v; want nil, nothing is stored", given.grant)
	}
	wantNone(t, s, theKey)
	if err := h.end(nil, nil); err != nil {
		t.Errorf("Update = %v", err)
	}
	wantNone(t, s, theKey)
}

func wantNone(t testing.TB, s b24oauth.Store, key string) {
	t.Helper()
	if g, err := s.Load(t.Context(), key); g != nil || !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("Load(%.80q) = %v, %v; want an error that wraps ErrNoGrant", key, g, err)
	}
}

func copies(t testing.TB, open func() b24oauth.Store) {
	s := open()
	spoil := func(g *b24oauth.Grant) {
		g.UserID = 666
		g.FormerHosts[0] = "spoiled"
		g.Lineage.Former[0] = 666
	}
	intact := func(after string) {
		t.Helper()
		if diff := cmp.Diff(numbered(1), load(t, s, theKey)); diff != "" {
			t.Fatalf("after %s was modified, the stored grant differs (-want +got):\n%s", after, diff)
		}
	}
	g := numbered(1)
	put(t, s, theKey, g)
	spoil(g)
	intact("the grant that fn had returned")
	spoil(load(t, s, theKey))
	intact("the grant that Load had returned")

	failure := errors.New("fn's own")
	for _, err := range []error{nil, failure} {
		got := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			spoil(g)
			return nil, err
		})
		if !errors.Is(got, err) {
			t.Errorf("Update = %v; want %v", got, err)
		}
		intact(fmt.Sprintf("fn's argument (and nil, %v returned)", err))
	}

	var kept *b24oauth.Grant
	err := s.Update(t.Context(), theKey, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		g.UserID, kept = 2, g
		return g, nil
	})
	if err != nil {
		t.Fatalf("Update with fn's modified argument = %v; want it stored", err)
	}
	wantNumber(t, s, theKey, 2)
	spoil(kept)
	wantNumber(t, s, theKey, 2)
}

// refused returns g with a verdict.
func refused(g *b24oauth.Grant) *b24oauth.Grant {
	g.Refused = b24oauth.Refusal{Code: "invalid_grant", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	return g
}

// accessOnly returns a grant that cannot be renewed.
func accessOnly(n int64) *b24oauth.Grant {
	return &b24oauth.Grant{AccessToken: fmt.Sprint("lone access ", n), UserID: n}
}

// tombstone returns what is stored for a grant that was deleted.
func tombstone(n uint64) *b24oauth.Grant {
	return &b24oauth.Grant{
		Deleted: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC),
		Lineage: b24oauth.Lineage{Root: 1<<63 + n, Former: []uint64{1<<64 - 1, 2}},
	}
}
