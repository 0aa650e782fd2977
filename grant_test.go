package b24oauth_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/b24go/b24oauth"
)

func TestEveryFieldOfAGrantIsStored(t *testing.T) {
	var g b24oauth.Grant
	v := reflect.ValueOf(&g).Elem()
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		switch f.Interface().(type) {
		case string:
			f.SetString("value of " + name + " <&>\"\u2028ü")
		case time.Time:
			f.Set(reflect.ValueOf(time.Date(2026, 8, i+1, 2, 3, 4, 567_890_123, time.FixedZone("", 2*60*60))))
		case int64:
			f.SetInt(1<<62 + int64(i))
		case []string:
			f.Set(reflect.ValueOf([]string{name + ".one", name + ".two"}))
		default:
			t.Fatalf("Grant.%s is a %s, which this test does not know", name, f.Type())
		}
	}
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
