package openapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/openapi"
)

var update = flag.Bool("update", false, "write the repaired document anew")

// The document has the form of a portal's own, with every fault of it. Generators
// refuse it as it is, and take the repaired one: examples/generated has what they
// make of it.
func TestAPortalsDocumentIsRepaired(t *testing.T) {
	data, err := os.ReadFile("testdata/portal.json")
	if err != nil {
		t.Fatal(err)
	}
	got, methods, err := openapi.Repair(data)
	if err != nil {
		t.Fatal(err)
	}
	if methods != 7 {
		t.Errorf("it describes %d methods", methods)
	}
	const golden = "testdata/repaired.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("go test -update, if that is meant:\n%s", diff)
	}
	again, _, err := openapi.Repair(got)
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("repaired twice it is another one: %v\n%s", err, cmp.Diff(string(got), string(again)))
	}
}

// document is one with an operation, whose parts are given as JSON.
func document(request, answer, schemas string) string {
	return `{"openapi":"3.0.0","info":{"title":"t","version":"1"},"servers":[{"url":"/"}],"paths":{"/a.b.list":{"post":{"operationId":"x","requestBody":{"content":{"application/json":{"schema":` + request +
		`}}},"responses":{"200":{"description":"ok","content":{"application/json":{"schema":` + answer + `}}},"default":{"description":"mine"}}}}},"components":{"schemas":` + schemas + `}}`
}

func TestEachFaultIsRepairedAndNothingElse(t *testing.T) {
	const none = `{"type":"string"}`
	for _, test := range []struct{ name, is, want string }{
		{"nothing", document(none, none, `{}`), document(none, none, `{}`)},
		{"no properties",
			document(`{"type":"object","properties":[]}`, none, `{"A":{"properties":[]}}`),
			document(`{"type":"object","properties":{},"additionalProperties":true}`, none, `{"A":{"properties":{}}}`)},
		{"an object of anything", document(`{"type":"object"}`, none, `{"A":{"type":"object","additionalProperties":false},"B":{"type":"object","allOf":[{}]}}`), document(`{"type":"object","additionalProperties":true}`, none, `{"A":{"type":"object","additionalProperties":false},"B":{"type":"object","allOf":[{}]}}`)},
		{"no schemas", document(none, none, `[]`), document(none, none, `{}`)},
		{"a property without a schema", document(none, none, `{"A":{"properties":{"items":[],"required":[],"default":[]}}}`), document(none, none, `{"A":{"properties":{"items":{},"required":{},"default":{}}}}`)},
		{"a list without elements", document(none, none, `{"A":{"required":[],"enum":[]}}`), document(none, none, `{"A":{}}`)},
		{"an empty default", document(none, none, `{"A":{"type":"array","items":{},"default":[],"example":{"properties":[]},"x-own":{"items":[]}}}`), document(none, none, `{"A":{"type":"array","items":{},"default":[],"example":{"properties":[]},"x-own":{"items":[]}}}`)},
		{"a list that is sent, of anything", document(`{"type":"array"}`, none, `{}`), document(`{"type":"array","items":{}}`, none, `{}`)},
		{"an array that comes, of anything", document(none, none, `{"A":{"allOf":[{"properties":{"b":{"type":"array","nullable":true}}}]}}`), document(none, none, `{"A":{"allOf":[{"properties":{"b":{"nullable":true}}}]}}`)},
		{"a list that is answered",
			document(none, `{"properties":{"result":{"type":"array","items":{"type":"integer"}},"time":{}}}`, `{}`),
			document(none, `{"properties":{"result":{"type":"object","required":["items"],"properties":{"items":{"type":"array","items":{"type":"integer"}}}},"time":{}}}`, `{}`)},
		{"a list of anything that is answered",
			document(none, `{"properties":{"result":{"type":"array"},"time":{}}}`, `{}`),
			document(none, `{"properties":{"result":{"type":"object","required":["items"],"properties":{"items":{}}},"time":{}}}`, `{}`)},
		{"a list that is answered by reference",
			document(none, `{"$ref":"#/components/schemas/R"}`, `{"R":{"properties":{"result":{"$ref":"#/components/schemas/L"},"time":{}}},"L":{"type":"array","items":{}}}`),
			document(none, `{"$ref":"#/components/schemas/R"}`, `{"R":{"properties":{"result":{"type":"object","required":["items"],"properties":{"items":{"$ref":"#/components/schemas/L"}}},"time":{}}},"L":{"type":"array","items":{}}}`)},
		{"a reference to itself", document(none, `{"$ref":"#/components/schemas/R"}`, `{"R":{"$ref":"#/components/schemas/R"}}`), document(none, `{"$ref":"#/components/schemas/R"}`, `{"R":{"$ref":"#/components/schemas/R"}}`)},
		{"no time",
			document(none, `{"properties":{"result":{}}}`, `{}`),
			document(none, `{"properties":{"result":{},"time":{"type":"object","additionalProperties":true,"description":"How long the method took, and how much of its budget it has used"}}}`, `{}`)},
		{"names of PHP's classes",
			document(`{"$ref":"#/components/schemas/A.B"}`, `{"$ref":"#/components/schemas/C~1D"}`, `{"A.B":{"oneOf":[{"$ref":"#/components/schemas/\\Bitrix\\Main"},{"$ref":"other.json#/A.B"}],"discriminator":{"propertyName":"t","mapping":{"a":"#/components/schemas/A.B","b":"A.B","c":"c"}}},"\\Bitrix\\Main":{},"C/D":{},"AB":{}}`),
			document(`{"$ref":"#/components/schemas/AB2"}`, `{"$ref":"#/components/schemas/CD"}`, `{"AB2":{"oneOf":[{"$ref":"#/components/schemas/BitrixMain"},{"$ref":"other.json#/A.B"}],"discriminator":{"propertyName":"t","mapping":{"a":"#/components/schemas/AB2","b":"AB2","c":"c"}}},"BitrixMain":{},"CD":{},"AB":{}}`)},
		{"types of PHP's", document(none, none, `{"A":{"properties":{"a":{"type":"int"},"b":{"type":"bool"},"c":{"type":"float"},"d":{"type":"mixed"}}}}`), document(none, none, `{"A":{"properties":{"a":{"type":"integer","format":"int64"},"b":{"type":"boolean"},"c":{"type":"number","format":"double"},"d":{}}}}`)},
		{"large numbers", document(none, none, `{"A":{"maximum":9223372036854775807,"minimum":1.50}}`), document(none, none, `{"A":{"maximum":9223372036854775807,"minimum":1.50}}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := openapi.Repair([]byte(test.is))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value(t, test.want), value(t, string(got))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// value is JSON with its numbers as they stand there.
func value(t *testing.T, text string) (v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestOperationsGetNamesThatNoOtherHas(t *testing.T) {
	const is = `{"openapi":"3.0.0","paths":{"/a.b":{"post":{},"get":{}},"/a_b":{"post":{"operationId":"aB"}},"/c":{"post":{"operationId":"a_b"}},"/a-b":{"post":{}},"/":{"post":{}},"/1":{}}}`
	data, methods, err := openapi.Repair([]byte(is))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Servers []struct{ URL string }
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, item := range got.Paths {
		for verb, operation := range item {
			if operation.OperationID == "" || seen[operation.OperationID] || operation.Responses["default"] == nil {
				t.Errorf("%s %s is %+v", verb, path, operation)
			}
			seen[operation.OperationID] = true
		}
	}
	if !seen["aB"] || !seen["getAB"] || !seen["aB2"] || methods != 6 || len(got.Servers) != 1 {
		t.Errorf("%d methods, %v, %v", methods, seen, got.Servers)
	}
}

func TestWhatIsNoDescriptionIsSaidToBeNone(t *testing.T) {
	const planted = "planted-secret"
	for is, want := range map[string]string{
		"":                       "a JSON object was expected",
		"<html>" + planted:       "a JSON object was expected",
		"null":                   "a JSON object was expected",
		`["` + planted + `"]`:    "a JSON object was expected",
		`{"openapi":"3.0.0"} {}`: "something follows",
		`{"openapi":"2.0"}`:      "3.0.0 is expected",
		`{"swagger":"` + planted: "a JSON object was expected",
		`{"result":{"a":1}}`:     "rest.documentation.openapi",
		`{"error":"expired_token","error_description":"` + planted + `"}`:   `the error "expired_token"`,
		`{"error":{"code":"BITRIX_REST_V3_X","message":"` + planted + `"}}`: `the error "BITRIX_REST_V3_X"`,
		`{"error":7}`: `the error ""`,
	} {
		_, _, err := openapi.Repair([]byte(is))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), planted) {
			t.Errorf("%.40q: %v, want %q", is, err, want)
		}
	}
}

func FuzzRepair(f *testing.F) {
	for _, file := range []string{"testdata/portal.json", "testdata/repaired.json"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(document(`[]`, `{"properties":{"result":{"type":"array"}}}`, `{"A.B":[],"AB":{"$ref":"#/components/schemas/A.B"}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, _, err := openapi.Repair(data)
		if err != nil {
			return
		}
		twice, _, err := openapi.Repair(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("repaired twice it is another one, %v:\n%s", err, cmp.Diff(string(once), string(twice)))
		}
	})
}
