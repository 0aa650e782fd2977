package b24oauth_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/b24go/b24oauth"
)

func TestEveryFieldOfAGrantIsStored(t *testing.T) {
	var g b24oauth.Grant
	fillFields(t, "Grant", reflect.ValueOf(&g).Elem())
	data, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got := b24oauth.Grant{FormerHosts: []string{"of an earlier use"}}
	if err := got.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, got); diff != "" {
		t.Errorf("after the round trip (-want +got):\n%s", diff)
	}
}

// fillFields puts something into every field of a struct, and of the structs in it.
func fillFields(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		name, f := path+"."+v.Type().Field(i).Name, v.Field(i)
		switch f.Interface().(type) {
		case string:
			f.SetString("value of " + name + " <&>\"\u2028ü")
		case time.Time:
			f.Set(reflect.ValueOf(time.Date(2026, 8, i+1, 2, 3, 4, 567_890_123, time.FixedZone("", 2*60*60))))
		case int64:
			f.SetInt(1<<62 + int64(i))
		case uint64:
			f.SetUint(1<<63 + uint64(i))
		case []string:
			f.Set(reflect.ValueOf([]string{name + ".one", name + ".two"}))
		case []uint64:
			f.Set(reflect.ValueOf([]uint64{1<<64 - 1, 1}))
		case b24oauth.Lineage, b24oauth.Refusal:
			fillFields(t, name, f)
		default:
			t.Fatalf("%s is a %s, which this test does not know", name, f.Type())
		}
	}
}

func TestGrantWithOneTokenIsStored(t *testing.T) {
	for _, g := range []b24oauth.Grant{{AccessToken: "a"}, {RefreshToken: "r"}} {
		data, err := g.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got b24oauth.Grant
		if err := got.UnmarshalBinary(data); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(g, got); diff != "" {
			t.Errorf("after the round trip (-want +got):\n%s", diff)
		}
	}
}

func TestDamagedGrantIsAnErrorThatQuotesNothing(t *testing.T) {
	whole, err := spent().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	type damaged struct{ name, value, text string }
	tests := []damaged{
		{"empty", "", "empty"},
		{"blank", " \r\n\t", "empty"},
		{"zeros", string(make([]byte, 64)), "damaged"},
		{"null", "null", "not a grant"},
		{"an empty object", "{}", "not a grant"},
		{"a list", `["CANARY"]`, "damaged"},
		{"a string", `"CANARY"`, "damaged"},
		{"a number", `1`, "damaged"},
		{"no version", `{"access_token":"CANARY"}`, "not a grant"},
		{"version 0", `{"v":0,"access_token":"CANARY"}`, "not a grant"},
		{"version -1", `{"v":-1,"access_token":"CANARY"}`, "not a grant"},
		{"a later version", `{"v":2,"access_token":"CANARY"}`, "version 2"},
		{"a version of another type", `{"v":"CANARY","access_token":"CANARY"}`, "damaged"},
		{"no token", `{"v":1,"client_id":"CANARY"}`, "not a grant"},
		{"a token of another type", `{"v":1,"access_token":["CANARY"]}`, "damaged"},
		{"a bad time", `{"v":1,"access_token":"CANARY","expiry":"CANARY"}`, "damaged"},
		{"a bad user", `{"v":1,"access_token":"CANARY","user_id":"CANARY"}`, "damaged"},
		{"something after it", string(whole) + "CANARY", "something follows"},
		{"another one after it", string(whole) + string(whole), "something follows"},
		{"something before it", "CANARY" + string(whole), "damaged"},
		{"a foreign file", "-----BEGIN CANARY-----", "damaged"},
	}
	for n := 1; n < len(whole); n += 7 {
		tests = append(tests, damaged{fmt.Sprintf("the first %d bytes", n), string(whole[:n]), "damaged"})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := spent()
			err := got.UnmarshalBinary([]byte(test.value))
			if err == nil || !strings.HasPrefix(err.Error(), "b24oauth: stored ") || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v; want one that says %q", err, test.text)
			}
			for _, secret := range []string{"CANARY", "token\"", "spent", "the-refresh"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("error %v quotes the value", err)
				}
			}
			if diff := cmp.Diff(spent(), got); diff != "" {
				t.Errorf("the grant was touched (-before +after):\n%s", diff)
			}
		})
	}
}

func TestStoredFormStaysReadable(t *testing.T) {
	const stored = `{"v":1,"client_id":"app.1","member_id":"member","client_endpoint":"https://portal.bitrix24.com/rest/","server_endpoint":"https://oauth.bitrix.info/rest/",` +
		`"access_token":"spent-access-token","refresh_token":"the-refresh-token","application_token":"the-application-token",` +
		`"issued":"1999-01-01T00:00:00Z","expiry":"1999-01-01T01:00:00Z","scope":"crm,task","status":"L","user_id":7,"former_hosts":["first.bitrix24.com"]}`
	data, err := spent().MarshalBinary()
	if err != nil || string(data) != stored {
		t.Errorf("stored form:\n got %s %v\nwant %s", data, err, stored)
	}
	var got b24oauth.Grant
	if err := got.UnmarshalBinary([]byte(strings.Replace(stored, "{", `{"field_of_a_later_release":[1,{}],`, 1) + "\n")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spent(), &got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func FuzzGrantUnmarshal(f *testing.F) {
	whole, err := spent().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"v":1,"access_token":"a","expiry":"9999-12-31T23:59:59.999999999+23:59","former_hosts":[]}`))
	f.Add([]byte(`{"V":1,"Access_Token":"\ud800","user_id":-9223372036854775808}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var g b24oauth.Grant
		if err := g.UnmarshalBinary(data); err != nil {
			if diff := cmp.Diff(b24oauth.Grant{}, g); diff != "" {
				t.Errorf("a refused value was taken in part:\n%s", diff)
			}
			if len(err.Error()) > 200 {
				t.Errorf("error %v is as long as the value", err)
			}
			return
		}
		if g.AccessToken == "" && g.RefreshToken == "" {
			t.Error("a grant without tokens was accepted")
		}
		again, err := g.MarshalBinary()
		if err != nil {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
		var back b24oauth.Grant
		if err := back.UnmarshalBinary(again); err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		if diff := cmp.Diff(g, back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after the round trip (-want +got):\n%s", diff)
		}
	})
}

func TestLineageIsStoredWithTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		first := stored(t, p).Lineage
		if first.Root == 0 || first.Generation != 0 || len(first.Former) != 0 {
			t.Errorf("an installation has the lineage %+v; want a root of its own and no more", first)
		}
		for generation := range uint64(2) {
			<-time.After(2 * time.Hour)
			token(t, p.source)
			want := b24oauth.Lineage{Root: first.Root, Generation: generation + 1}
			if diff := cmp.Diff(want, stored(t, p).Lineage); diff != "" {
				t.Errorf("after %d refreshes (-want +got):\n%s", generation+1, diff)
			}
		}
		if err := p.config.Save(t.Context(), key, p.Install()); err != nil {
			t.Fatal(err)
		}
		second := stored(t, p).Lineage
		if diff := cmp.Diff(b24oauth.Lineage{Root: second.Root, Former: []uint64{first.Root}}, second); diff != "" || second.Root == first.Root {
			t.Errorf("a new installation's lineage (-want +got):\n%s", diff)
		}
		p.remove(t)
		third := stored(t, p).Lineage
		if diff := cmp.Diff(b24oauth.Lineage{Root: third.Root, Former: []uint64{first.Root, second.Root}}, third); diff != "" || third.Root == second.Root {
			t.Errorf("a tombstone's lineage (-want +got):\n%s", diff)
		}
	})
}

func TestOlderGrantIsOutdated(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *program){
		"after a refresh": func(*testing.T, *program) {},
		"after a restart": func(_ *testing.T, p *program) { p.restart(with(p.config.Store, nil)) },
		"over a refused one": func(t *testing.T, p *program) {
			p.KillGrants()
			<-time.After(2 * time.Hour)
			wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		},
		"of an authorization that was replaced": func(t *testing.T, p *program) {
			if err := p.config.Save(t.Context(), key, p.Install()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgramWithoutGrant(t, with(newFaultyStore(), nil))
				delivered := p.Install()
				if err := p.config.Save(t.Context(), key, delivered); err != nil {
					t.Fatal(err)
				}
				<-time.After(2 * time.Hour)
				token(t, p.source)
				prepare(t, p)
				before := stored(t, p)
				err := p.config.Save(t.Context(), key, delivered)
				var te *b24oauth.TokenError
				if !errors.Is(err, b24oauth.ErrOutdated) || !errors.As(err, &te) || te.Key != key || errors.Is(err, b24oauth.ErrMisconfigured) {
					t.Errorf("Save = %v; want ErrOutdated of the grant", err)
				}
				if diff := cmp.Diff(before, stored(t, p)); diff != "" {
					t.Errorf("the stored grant was touched (-before +after):\n%s", diff)
				}
			})
		})
	}
}

func TestSavingTheStoredPairAgainIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		<-time.After(2 * time.Hour)
		p.FailTokens(1, tokenRefusal(400, "invalid_grant"))
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		refused := stored(t, p)
		if refused.Refused.Code != "invalid_grant" {
			t.Errorf("stored verdict %+v", refused.Refused)
		}
		if err := p.config.Save(t.Context(), key, refused); err != nil {
			t.Fatal(err)
		}
		want := *refused
		want.Refused = b24oauth.Refusal{At: time.Now().UTC()} // lifted
		if diff := cmp.Diff(&want, stored(t, p)); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		token(t, p.source) // the verdict was wrong
	})
}
