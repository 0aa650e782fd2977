package authparam_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/google/go-cmp/cmp"
)

func TestJSONCarriesTheTokenLast(t *testing.T) {
	long := strings.Repeat("x", 200-len(`{"a":""}`))
	deep := strings.Repeat(`{"a":[`, 2000) + strings.Repeat(`]}`, 2000)
	for _, c := range []struct{ name, body, token, want string }{
		{"empty object", `{}`, "t", `{ "auth":"t"}`},
		{"empty object with white space", " {\r\n\t} \n", "t", " {\r\n\t" + ` "auth":"t"} ` + "\n"},
		{"one member", `{"a":1}`, "t", `{"a":1,"auth":"t"}`},
		{"white space stays", "\n { \"a\" : 1 } ", "t", "\n { \"a\" : 1 ,\"auth\":\"t\"} "},
		{"token is quoted", `{}`, "\"\\\n</é\x7f", `{ "auth":"\"\\\n\u003c/é` + "\x7f" + `"}`},
		{"control character in the token", `{}`, "\x01", `{ "auth":"\u0001"}`},
		{"token that is no UTF-8", `{}`, "t\x80", `{ "auth":"t\ufffd"}`},
		{"as long as a buffer", `{"a":"` + long + `"}`, "t", `{"a":"` + long + `","auth":"t"}`},
		{"long token", `{"a":1}`, strings.Repeat("t", 500), `{"a":1,"auth":"` + strings.Repeat("t", 500) + `"}`},
		{"caller's auth", `{"auth":"x","a":1}`, "t", `{"auth":"x","a":1,"auth":"t"}`},
		{"nested auth", `{"a":{"auth":"x"}}`, "t", `{"a":{"auth":"x"},"auth":"t"}`},
		{"nested empty object", `{"a":{},"b":[]}`, "t", `{"a":{},"b":[],"auth":"t"}`},
		{"braces in strings", `{"}":"]}{"}`, "t", `{"}":"]}{","auth":"t"}`},
		{"escapes", `{"a\"}":"\\","b\\\"}":"\\\\\""}`, "t", `{"a\"}":"\\","b\\\"}":"\\\\\"","auth":"t"}`},
		{"empty strings", `{"":""}`, "t", `{"":"","auth":"t"}`},
		{"deep nesting", `{"a":` + deep + `}`, "t", `{"a":` + deep + `,"auth":"t"}`},
		{"more follows", `{"a":1} {"b":2} }`, "t", `{"a":1} {"b":2} ,"auth":"t"}`},
		{"two objects", `{}{}`, "t", `{}{,"auth":"t"}`},
		{"not closed, and a brace in a string", `{"a":"}`, "t", `{"a":","auth":"t"}`},
		{"not closed, and a brace within", `{"a":{}`, "t", `{"a":{,"auth":"t"}`},
		{"some white space follows", `{"a":1}` + strings.Repeat(" \n", 31), "t", `{"a":1,"auth":"t"}` + strings.Repeat(" \n", 31)},
		{"not closed", `{"a":1`, "t", `{"a":1           `},
		{"not closed in a string", `{"a":"\`, "t", `{"a":"\           `},
		{"brace alone", `{`, "t", `{           `},
		{"closed by a bracket", `{"a":1]`, "t", `{"a":1]           `},
		{"no object", `[]`, "t", `[]           `},
		{"nothing", ``, "t", `           `},
	} {
		everyWay(c.body, func(r io.Reader, size int) {
			got, err := drain(t, authparam.NewJSONReader(r, c.token), size)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, read by %d from %+v (-want +got):\n%s", c.name, size, r, diff)
			}
			if int64(len(got)) != int64(len(c.body))+authparam.JSONOverhead(c.token) {
				t.Errorf("%s: grew by %d, announced %d", c.name, len(got)-len(c.body), authparam.JSONOverhead(c.token))
			}
		})
	}
}

func TestJSONPassesOnHowItsBodyIsRead(t *testing.T) {
	const body = `{"a":"\"}"}   `
	broken := errors.New("broken")
	for _, c := range []readerCase{
		{"one byte at a time", iotest.OneByteReader, nil, body},
		{"half of what is asked for", iotest.HalfReader, nil, body},
		{"data and end together", iotest.DataErrReader, nil, body},
		{"nothing, now and then", func(r io.Reader) io.Reader { return &stutter{r: r} }, nil, body},
		{"failing at once", func(io.Reader) io.Reader { return iotest.ErrReader(broken) }, broken, ""},
		{"failing at the end", func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(broken)) }, broken, body},
		{"failing with its last bytes", func(r io.Reader) io.Reader {
			return iotest.DataErrReader(io.MultiReader(r, iotest.ErrReader(broken)))
		}, broken, body},
		{"failing before the object ends", func(r io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(r, 7), iotest.ErrReader(broken))
		}, broken, body[:7]},
		{"failing on the second read", func(r io.Reader) io.Reader {
			return iotest.TimeoutReader(iotest.OneByteReader(r))
		}, iotest.ErrTimeout, body[:1]},
	} {
		for _, size := range []int{0, 1, 3, 64} {
			got, err := drain(t, authparam.NewJSONReader(c.wrap(strings.NewReader(body)), "t"), size)
			if !errors.Is(err, c.err) {
				t.Errorf("%s: error %v, want %v", c.name, err, c.err)
			}
			want := strings.Replace(c.body, `"}"}`, `"}","auth":"t"}`, 1)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, read by %d (-want +got):\n%s", c.name, size, diff)
			}
		}
	}
}

// What is kept back until more comes must have an end, and stays where it was: it
// may be in a string.
func TestMuchWhiteSpaceAfterABraceIsNotKept(t *testing.T) {
	mixed, spaces, feeds := strings.Repeat(" \n\t\r", 100), strings.Repeat(" ", 600), strings.Repeat("\n", 200)
	const member = `,"auth":"t"`
	for _, c := range []struct {
		body, want string
		exactly    bool
	}{
		{`{"a":1}` + mixed, `{"a":1` + member + `}` + mixed, false},
		{`{"a":1}` + spaces, `{"a":1` + member + `}` + spaces, true},
		{`{"a":{}` + mixed + `}`, `{"a":{}` + mixed + member + `}`, false},
		{`{"a":{}` + feeds + `,"b":2}`, `{"a":{}` + feeds + `,"b":2` + member + `}`, true},
		{`{}` + mixed, `{ "auth":"t"}` + mixed, false},
		{`{"a":"}` + spaces + `x"}`, `{"a":"}` + spaces + `x"` + member + `}`, true},
		{`{"a":"}` + spaces + `"}` + feeds, `{"a":"}` + spaces + `"` + member + `}` + feeds, true},
		{`{"a":"}` + spaces + `}` + spaces + `"}`, `{"a":"}` + spaces + `}` + spaces + `"` + member + `}`, true},
		{`{"a":"}` + spaces, `{"a":"` + member + `}` + spaces, true},                                  // no JSON, and stays none
		{`{"a":"}` + mixed + `"}`, `{"a":"}` + mixed + `"` + member + `}`, false},                     // here as well
		{`{"a":"}` + spaces + `x`, `{"a":"}` + spaces + `x` + strings.Repeat(" ", len(member)), true}, // and here
	} {
		everyWay(c.body, func(r io.Reader, size int) {
			got, err := drain(t, authparam.NewJSONReader(r, "t"), size)
			if err != nil {
				t.Fatal(err)
			}
			same := got == c.want
			if !c.exactly {
				unify := strings.NewReplacer("\n", " ", "\t", " ", "\r", " ")
				same = unify.Replace(got) == unify.Replace(c.want) && json.Valid([]byte(got)) == json.Valid([]byte(c.want))
			}
			if !same {
				t.Errorf("%.20q, read by %d from %+v: %q", c.body, size, r, got)
			}
		})
	}
}

// An end that comes while white space is counted is the caller's, and comes last.
func TestAnErrorAfterMuchWhiteSpaceIsPassedOn(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		rest io.Reader
		err  error
	}{
		{iotest.ErrReader(broken), broken},
		{iotest.DataErrReader(io.MultiReader(strings.NewReader(strings.Repeat(" ", 900)+"x"), iotest.ErrReader(broken))), broken},
		{idle{}, io.ErrNoProgress},
	} {
		body := io.MultiReader(strings.NewReader(`{"a":"}`+strings.Repeat(" ", 200)), c.rest)
		if got, err := drain(t, authparam.NewJSONReader(body, "t"), 0); !errors.Is(err, c.err) {
			t.Errorf("%v, want %v, after %q", err, c.err, got)
		}
	}
}

func TestJSONReaderPassesIotest(t *testing.T) {
	r := authparam.NewJSONReader(strings.NewReader(`{"a":"b"}`), "t")
	if err := iotest.TestReader(r, []byte(`{"a":"b","auth":"t"}`)); err != nil {
		t.Error(err)
	}
}

func TestSniffJSONObjectReadsNoFurtherThanItMust(t *testing.T) {
	broken := errors.New("broken")
	blank := strings.Repeat(" ", 512)
	for _, c := range []struct {
		name   string
		r      io.Reader
		prefix string
		object bool
		err    error
		rest   string
	}{
		{"object", strings.NewReader(`{"a":1}`), "{", true, nil, `"a":1}`},
		{"object after white space", strings.NewReader(" \r\n\t{}"), " \r\n\t{", true, nil, "}"},
		{"array", strings.NewReader("\n[{}]"), "\n[", false, nil, "{}]"},
		{"byte-order mark", strings.NewReader("\uFEFF{}"), "\xEF", false, nil, "\xBB\xBF{}"},
		{"other space", strings.NewReader("\v{}"), "\v", false, nil, "{}"},
		{"nothing", strings.NewReader(""), "", false, nil, ""},
		{"white space only", strings.NewReader("  "), "  ", false, nil, ""},
		{"as much white space as it takes", strings.NewReader(blank[1:] + "{}"), blank[1:] + "{", true, nil, "}"},
		{"more white space than it takes", strings.NewReader(blank + "{}"), blank, false, nil, "{}"},
		{"end together with the brace", iotest.DataErrReader(strings.NewReader(" {")), " {", true, nil, ""},
		{"end together with a space", iotest.DataErrReader(strings.NewReader(" ")), " ", false, nil, ""},
		{"nothing, now and then", &stutter{r: strings.NewReader("  {}")}, "  {", true, nil, "}"},
		{"nothing, often", &stutter{r: strings.NewReader(blank[:200] + "{}")}, blank[:200] + "{", true, nil, "}"},
		{"nothing for ever", idle{}, "", false, io.ErrNoProgress, ""},
		{"failing", io.MultiReader(strings.NewReader("  "), iotest.ErrReader(broken)), "  ", false, broken, ""},
		{"failing together with the brace", iotest.DataErrReader(io.MultiReader(strings.NewReader(" {"), iotest.ErrReader(broken))), " {", true, broken, ""},
	} {
		prefix, object, err := authparam.SniffJSONObject(c.r)
		if string(prefix) != c.prefix || object != c.object || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %t, %v; want %q, %t, %v", c.name, prefix, object, err, c.prefix, c.object, c.err)
		}
		if c.err != nil {
			continue
		}
		if rest, err := io.ReadAll(c.r); string(rest) != c.rest || err != nil {
			t.Errorf("%s: leaves %q, %v; want %q", c.name, rest, err, c.rest)
		}
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func FuzzJSON(f *testing.F) {
	for i, body := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"auth":"x","a":{"auth":[{}]}}`, `{"\\\"}":"\\"}`, `{"a":"é\u0061"}x`, `{"`, `{]`, `{"a":"\`,
	} {
		f.Add([]byte(body), "token", uint8(i), uint8(i/2), i%2 == 0)
	}
	f.Add([]byte(`{"a":1}`), "\"\\\xff\x00", uint8(1), uint8(0), true)
	f.Add([]byte(`0`), "0", uint8('\b'), uint8('\x04'), true)
	f.Add([]byte(`{"a":{}`+strings.Repeat(" ", 200)+`}`+strings.Repeat("\n", 200)), "token", uint8(7), uint8(3), false)
	f.Add([]byte(`{"a":"}`+strings.Repeat(" ", 200)+`}`+strings.Repeat(" ", 100)+`x"}`), "token", uint8(0), uint8(0), true)
	f.Fuzz(func(t *testing.T, body []byte, token string, given, size uint8, early bool) {
		in := bytes.Clone(body)
		r := authparam.NewJSONReader(chunked{bytes.NewReader(in), int(given), early}, token)
		got, err := drain(t, r, int(size))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got)) != int64(len(body))+authparam.JSONOverhead(token) {
			t.Errorf("%q: grew by %d, announced %d", body, len(got)-len(body), authparam.JSONOverhead(token))
		}
		if !bytes.Equal(in, body) {
			t.Error("the caller's body was written to")
		}
		_, object, _ := authparam.SniffJSONObject(bytes.NewReader(body))
		if object && json.Valid([]byte(got)) != json.Valid(body) {
			t.Errorf("%q is valid: %t, and became %q", body, json.Valid(body), got)
		}
		if object && json.Valid(body) && (len(body) < 64 || !bytes.ContainsAny(body, "\n\t\r")) {
			member := string(authparam.AppendMember(nil, token))
			at := strings.LastIndex(got, member[1:])
			if at < 1 || got[:at-1]+got[at+len(member)-1:] != string(body) {
				t.Errorf("%q became %q: more than the member is new", body, got)
			}
		}
		var want, have map[string]any
		if json.Unmarshal(body, &want) != nil || want == nil {
			return
		}
		want["auth"] = string([]rune(token))
		if err := json.Unmarshal([]byte(got), &have); err != nil {
			t.Fatalf("%q became %q: %v", body, got, err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%q became %q (-want +got):\n%s", body, got, diff)
		}
	})
}
