package b24oauth

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What hold leaves out is gone at the next save: each field of a grant, alone in
// one of a usual portal and together with all others, must come back.
func TestHeldGrantIsTheGrantItWas(t *testing.T) {
	var whole Grant
	grants := map[string]Grant{"nothing": {}}
	for i := range reflect.TypeFor[Grant]().NumField() {
		alone := Grant{ClientEndpoint: "https://portal.bitrix24.com/rest/"} // is held in no field of its own
		fillIn(t, reflect.ValueOf(&alone).Elem().Field(i), i+1)
		fillIn(t, reflect.ValueOf(&whole).Elem().Field(i), i+1)
		grants[reflect.TypeFor[Grant]().Field(i).Name] = alone
	}
	grants["all"] = whole
	for name, endpoint := range map[string]string{
		"at a path":           "https://portal.example/bitrix/rest/",
		"with a port":         "https://portal.example:8443/rest/",
		"on loopback":         "http://127.0.0.1:8080/rest/",
		"not in its one form": "https://Portal.example:443/rest",
		"at a webhook":        "https://portal.example/rest/1/abcdefghijklmnop/",
	} {
		grants[name] = Grant{ClientEndpoint: endpoint, AccessToken: "access", RefreshToken: "refresh"}
	}
	for name, token := range map[string]string{
		"with a token that is escaped":        "a+b/c=&d ü",
		"with a token as its field's end":     "auth=",
		"with a token that escapes to itself": "%25",
	} {
		grants[name] = Grant{AccessToken: token, RefreshToken: token, ApplicationToken: "application"}
	}
	for name, g := range grants {
		for _, key := range []string{"key", g.MemberID} {
			s := &TokenSource{key: key}
			h := s.hold(&g)
			if diff := cmp.Diff(g, *h.grant(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("a grant %s, under %q, is held otherwise (-grant +held):\n%s", name, key, diff)
			}
		}
	}
}

// fillIn sets v to a value of its own for each n.
func fillIn(t *testing.T, v reflect.Value, n int) {
	t.Helper()
	if v.Type() == reflect.TypeFor[time.Time]() {
		zone := time.FixedZone("", n*3600)
		v.Set(reflect.ValueOf(time.Date(2026, 8, n, 1, 2, 3, n, zone)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(rune('a'+n)) + " value")
	case reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fillIn(t, v.Index(i), n+i)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillIn(t, v.Field(i), n+i)
		}
	default:
		t.Fatalf("a field of type %s is new: fill it in here", v.Type())
	}
}

// The lists of a grant are a Store's, or a user's: what they do to them must not
// reach what is held, nor the other way round.
func TestHeldGrantSharesNoListWithAnybody(t *testing.T) {
	g := &Grant{FormerHosts: []string{"former"}, Lineage: Lineage{Former: []uint64{1}}}
	h := new(TokenSource).hold(g)
	want := h.grant()
	for _, theirs := range []*Grant{g, h.grant()} {
		theirs.FormerHosts[0], theirs.Lineage.Former[0] = "stranger", 2
	}
	if diff := cmp.Diff(want, h.grant()); diff != "" {
		t.Errorf("a held grant was changed (-before +after):\n%s", diff)
	}
}
