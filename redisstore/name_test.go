package redisstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/redisstore"
	"github.com/redis/go-redis/v9"
)

// unreachable is a client that never gets as far as dialling.
func unreachable(t *testing.T) *redis.Client {
	return dial(t, &redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
}

func TestAnyKeyHasANameAndTheNameTellsIt(t *testing.T) {
	s := redisstore.New(unreachable(t))
	names := make(map[string]string)
	for _, key := range []string{
		"example.bitrix24.com", "EXAMPLE.bitrix24.com", "a/b", "a:b", "a b", "a+b", "a%2Fb", "%", " ", "\x00", "\xff\xfe", "Портал",
		"{", "}", "{}", "{}{}", "{a}", "}{", "{{a}}", "a{b}c", "*", "?", "[a]", `\`, "\r\n", strings.Repeat("{", 1024),
	} {
		name := nameOf(t, s, key)
		if other, taken := names[name]; taken {
			t.Errorf("the keys %q and %q have one name, %q", key, other, name)
		}
		names[name] = key
		tag, ok := strings.CutPrefix(name, "b24oauth:{")
		tag, closed := strings.CutSuffix(tag, "}")
		if !ok || !closed || tag == "" || strings.ContainsAny(tag, "{}") {
			t.Errorf("the name of %.40q is %.80q; want one hash tag with something in it", key, name)
		}
		if got, ok := s.Key(name); !ok || got != key {
			t.Errorf("Key(%.80q) = %.40q, %t; want %.40q", name, got, ok, key)
		}
	}
	if got := nameOf(t, s, "example.bitrix24.com"); got != "b24oauth:{example.bitrix24.com}" {
		t.Errorf("the name of a plain key is %q; want it readable", got)
	}
}

func TestNamesOfOthersAreNoKeys(t *testing.T) {
	s := redisstore.New(unreachable(t))
	for _, name := range []string{
		"", "b24oauth:", "b24oauth:a", "b24oauth:{}", "b24oauth:{a", "b24oauth:{a}b", "b24oauth:{a}{b}", "b24oauth:{%2}", "b24oauth:{%41}", "b24oauth:{a b}", "other:{a}",
	} {
		if key, ok := s.Key(name); ok {
			t.Errorf("Key(%q) = %q; want none", name, key)
		}
	}
}

func TestAnEmptyKeyAndARingAreRefused(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}})
	t.Cleanup(func() { ring.Close() })
	for _, c := range []struct {
		name, key, want string
		client          redis.UniversalClient
	}{
		{"empty key", "", "empty", unreachable(t)},
		{"ring", "key", "Ring", ring},
	} {
		s := redisstore.New(c.client)
		if _, err := s.Load(t.Context(), c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Load = %v; want an error that says %q", c.name, err, c.want)
		}
		err := s.Update(t.Context(), c.key, returning(numbered(1), nil))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Update = %v; want an error that says %q", c.name, err, c.want)
		}
	}
}

func TestStoreDoesNotPrintTheClientsPassword(t *testing.T) {
	s := redisstore.New(dial(t, &redis.Options{Addr: "127.0.0.1:1", Password: "s3cret"}))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got, want := fmt.Sprintf(verb, s), `redisstore.Store{prefix="b24oauth:"}`; got != want {
			t.Errorf("%s: %s, want %s", verb, got, want)
		}
	}
	if got := fmt.Sprint((*redisstore.Store)(nil)); got != "<nil>" {
		t.Errorf("no Store prints as %s", got)
	}
}
