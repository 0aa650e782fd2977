package resterror_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/resterror"
	"github.com/google/go-cmp/cmp"
)

// A fixture is an reading as portals give it, and whether the token is to be
// renewed for it: true, false or "once per token".
type fixture struct {
	Status int    `json:"status"`
	Renew  any    `json:"renew"`
	Type   string `json:"type"`
	Body   string `json:"body"`
}

func fixtures(t testing.TB) []fixture {
	t.Helper()
	data, err := os.ReadFile("../../testdata/rest-errors.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []fixture
	if err := json.Unmarshal(data, &fixtures); err != nil {
		t.Fatal(err)
	}
	if len(fixtures) == 0 {
		t.Fatal("no fixtures")
	}
	return fixtures
}

func TestAnswersAreJudgedAsTheProtocolSays(t *testing.T) {
	verdicts := map[any]resterror.Verdict{
		true: resterror.Refused, "once per token": resterror.Ambiguous, false: resterror.Other,
	}
	for _, f := range fixtures(t) {
		want, known := verdicts[f.Renew]
		if !known {
			t.Fatalf("fixture asks for %v", f.Renew)
		}
		if f.Status != http.StatusUnauthorized {
			continue // none of those is read
		}
		if got, _, decided := resterror.Read([]byte(f.Body)); got != want || !decided {
			t.Errorf("%s: verdict %d, decided %t; want %d", f.Body, got, decided, want)
		}
	}
}

// reading is what Read returns.
type reading struct {
	Verdict resterror.Verdict
	Code    string
}

var (
	other   = reading{resterror.Other, ""}
	refused = reading{resterror.Refused, "expired_token"}
	unclear = reading{resterror.Ambiguous, ""}
)

const denied = "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"

func TestTheCodeDecides(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       reading
	}{
		{"expired token", `{"error":"expired_token"}`, refused},
		{"invalid token", `{"error":"invalid_token"}`, reading{resterror.Refused, "invalid_token"}},
		{"any case", `{"error":"Expired_TOKEN"}`, reading{resterror.Refused, "Expired_TOKEN"}},
		{"v3", `{"error":{"message":"x","code":"` + denied + `"}}`, reading{resterror.Ambiguous, denied}},
		{"v3 in lower case", `{"error":{"code":"` + strings.ToLower(denied) + `"}}`, reading{resterror.Ambiguous, strings.ToLower(denied)}},
		{"v3 with another code", `{"error":{"code":"X.Y-Z_1"}}`, reading{resterror.Other, "X.Y-Z_1"}},
		{"v3 with the code further down", `{"error":{"details":{"code":"expired_token"}}}`, other},
		{"v3 without a code", `{"error":{}}`, other},
		{"no body", "", unclear},
		{"blank body", " \r\n", unclear},
	} {
		checkRead(t, c.name, c.body, c.want)
	}
}

func TestRefusalsWithoutAnyHopeAreLeftAlone(t *testing.T) {
	for _, code := range []string{
		"NO_AUTH_FOUND", "authorization_error", "user_access_error", "insufficient_scope", "INVALID_CREDENTIALS",
		"METHOD_CONFIRM_WAITING", "ERROR_OAUTH", "APPLICATION_NOT_FOUND", "ACCESS_DENIED", "OVERLOAD_LIMIT", "CONNECTION_ERROR",
	} {
		checkRead(t, code, `{"error":"`+code+`"}`, reading{resterror.Other, code})
		checkRead(t, code+" in XML", `<response><error>`+code+`</error></response>`, reading{resterror.Other, code})
	}
}

func TestOnlyTheErrorAtTheTopCounts(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       reading
	}{
		{"in a batch", `{"result":{"result_error":{"a":{"error":"expired_token"}}}}`, other},
		{"in an array", `{"a":[{"error":"expired_token"}]}`, other},
		{"array at the top", `[{"error":"expired_token"}]`, other},
		{"string at the top", `"expired_token"`, other},
		{"key in another case", `{"Error":"expired_token"}`, other},
		{"as a value", `{"a":"error","b":"expired_token"}`, other},
		{"after nested ones", `{"a":{"error":"x"},"b":["error"],"error":"expired_token"}`, refused},
		{"written with escapes", `{"\u0065rror":"expired\u005ftoken"}`, refused},
		{"number", `{"error":401}`, other},
		{"array", `{"error":["expired_token"]}`, other},
		{"null", `{"error":null}`, other},
		{"nested in XML", `<response><result><error>expired_token</error></result></response>`, other},
		{"after others in XML", `<response><time><a/></time><error>expired_token</error></response>`, refused},
		{"with elements in it", `<response><error>expired_token<a/></error></response>`, other},
		{"nothing in XML", `<response/>`, other},
		{"empty in XML", `<response><error/></response>`, other},
		{"another root", `<html><error>expired_token</error></html>`, other},
		{"error as the root", `<error>expired_token</error>`, other},
		{"after the root", `<response></response><error>expired_token</error>`, other},
	} {
		checkRead(t, c.name, c.body, c.want)
	}
}

func TestBodiesAreReadAsFarAsTheyCanBe(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		name, body string
		want       reading
	}{
		{"white space before it", " \n\t{\"error\":\"expired_token\"}", refused},
		{"byte-order mark", "\uFEFF{\"error\":\"expired_token\"}", refused},
		{"byte-order mark alone", "\uFEFF", unclear},
		{"cut after the code", `{"error":"expired_token","error_descr`, refused},
		{"cut after v3's code", `{"error":{"code":"` + denied + `","mess`, reading{resterror.Ambiguous, denied}},
		{"cut within the code", `{"error":"expired_token`, other},
		{"cut before the code", `{"result":{"a":`, other},
		{"cut after the key", `{"error"`, other},
		{"broken", `{"error" "expired_token"}`, other},
		{"deeply nested", `{"a":` + strings.Repeat("[", 1<<20), other},
		{"deeply nested error", strings.Repeat(`{"error":`, 1<<18), other},
		{"HTML", "<!DOCTYPE html><html><body>401<br></body></html>", other},
		{"text", "Unauthorized", other},
		{"XML with a prologue", `<?xml version="1.0" encoding="windows-1251"?>` + "\n<response>\n <error>\n expired_token </error></response>", refused},
		{"XML in parts", `<response><error><!-- x -->expired<![CDATA[_token]]></error></response>`, refused},
		{"XML cut after the code", `<response><error>expired_token</error><error_descr`, refused},
		{"XML cut within the code", `<response><error>expired_token`, other},
		{"XML cut before the code", `<response><a>x`, other},
		{"XML of another charset after the code", "<response><error>expired_token</error><error_description>\xCF</error_description>", refused},
		{"deeply nested XML", "<response>" + strings.Repeat("<a>", 1<<18), other},
		{"longest code", `{"error":"` + long[:64] + `"}`, reading{resterror.Other, long[:64]}},
		{"code too long", `{"error":"` + long[:65] + `"}`, other},
		{"code of other characters", `{"error":"a\nb"}`, other},
		{"code with a space", `{"error":"expired_token "}`, other},
		{"localized code", `{"error":"ошибка"}`, other},
	} {
		checkRead(t, c.name, c.body, c.want)
	}
}

func checkRead(t *testing.T, name, body string, want reading) {
	t.Helper()
	v, code, _ := resterror.Read([]byte(body))
	if diff := cmp.Diff(want, reading{v, code}); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
	checkEveryStart(t, name, body)
}

// checkEveryStart checks that what was decided about the start of a body, or
// what is known of it then, is not taken back for what follows.
func checkEveryStart(t *testing.T, name, body string) {
	t.Helper()
	v, code, _ := resterror.Read([]byte(body))
	for n := range min(len(body), 300) {
		early, earlyCode, decided := resterror.Read([]byte(body[:n]))
		if decided && (early != v || earlyCode != code) {
			t.Errorf("%s: %d %q was decided after %d bytes, and is %d %q", name, early, earlyCode, n, v, code)
		}
		if early == resterror.Refused && !decided {
			t.Errorf("%s: refused after %d bytes, and not decided", name, n)
		}
	}
}

func TestCodeIsDecidedAsSoonAsItIsThere(t *testing.T) {
	for body, want := range map[string]bool{
		`{"error":"expired_token"`:               true,
		`{"error":"expired_toke`:                 false,
		`{"error":{"code":"` + denied + `"`:      true,
		`{"error":`:                              false,
		`{"error":null`:                          false,
		`{"result":{"a":[`:                       false,
		`{}`:                                     true,
		"\uFEFF \n{\"error\":\"expired_token\"":  true,
		"\uFEFF":                                 false,
		"\uFEFF\uFEFF":                           true,
		"\xEF\xBB":                               false,
		"\xEF\xBC":                               true,
		"":                                       false,
		" \t\r\n":                                false,
		`<response><error>expired_token</error>`: true,
		`<response><error>expired_token</err`:    false,
		`<?xml version="1.0"?><resp`:             false,
		`<!DOCTYPE html><html>`:                  true,
		"Unauthorized":                           true,
		`[`:                                      true,
	} {
		if _, _, decided := resterror.Read([]byte(body)); decided != want {
			t.Errorf("%q: decided %t", body, decided)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, x := range fixtures(f) {
		f.Add([]byte(x.Body))
	}
	f.Add([]byte(`{"a":[{}],"error":{"code":"x"`))
	f.Add([]byte(`<?xml version="1.0" encoding="x"?><!DOCTYPE a [<!ENTITY b "c">]><response a="b">&amp;<error><![CDATA[x]]>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		v, code, decided := resterror.Read(body)
		if string(body) != before {
			t.Error("the body was written to")
		}
		if again, c, d := resterror.Read(body); again != v || c != code || d != decided {
			t.Errorf("%q: %d %q, then %d %q", body, v, code, again, c)
		}
		if strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" || len(code) > 64 {
			t.Errorf("code %q", code)
		}
		if v == resterror.Refused && !strings.EqualFold(code, "expired_token") && !strings.EqualFold(code, "invalid_token") {
			t.Errorf("code %q: refused", code)
		}
		checkEveryStart(t, "", before)
	})
}
