package authparam_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/authparam"
)

// wholeBodies are bodies of each kind that the readers treat differently.
var wholeBodies = []string{
	"", "a=1", "auth=x", "a=1&auth=x&b=2", "%61uth[]=x&&+auth=y", "auth", "a%", "author=x",
	"{}", " { } \n", `{"a":1}`, "\t{\"a\":\"}\"}\r\n", `{"a":{}`, `{"a":"}`, `{}{}`, `{"a":1}x`, "{", " {\n",
}

func TestWholeBodyIsWhatItIsAsAStream(t *testing.T) {
	for _, token := range []string{"0123456789abcdef", "a&b=\"ü\\", ""} {
		for _, body := range wholeBodies {
			sameAsStream(t, body, token)
		}
	}
}

func FuzzWhole(f *testing.F) {
	for _, body := range wholeBodies {
		f.Add(body, "0123456789abcdef")
	}
	f.Fuzz(sameAsStream)
}

func sameAsStream(t *testing.T, body, token string) {
	form := []byte(body)
	authparam.BlankForm(form)
	if diff := cmp.Diff(read(t, authparam.NewFormReader(strings.NewReader(body), token)), authparam.Field(token)+"&"+string(form)); diff != "" {
		t.Errorf("form %q (-stream +whole):\n%s", body, diff)
	}
	_, object, err := authparam.SniffJSONObject(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if whole := authparam.IsJSONObject([]byte(body)); whole != object {
		t.Errorf("%q is an object: %t, and as a stream: %t", body, whole, object)
	}
	if !object {
		return
	}
	with := authparam.InsertJSON([]byte(body), authparam.AppendMember(nil, token))
	stream := read(t, authparam.NewJSONReader(strings.NewReader(body), token))
	if len(body)-len(strings.TrimRight(body, " \n\t\r")) > 62 { // the brace may stand after that
		return
	}
	if diff := cmp.Diff(stream, string(with)); diff != "" {
		t.Errorf("JSON %q (-stream +whole):\n%s", body, diff)
	}
	if more := int64(len(with) - len(body)); more != authparam.JSONOverhead(token) {
		t.Errorf("JSON %q became longer by %d, want %d", body, more, authparam.JSONOverhead(token))
	}
}

func TestWholeBodyIsChangedInPlace(t *testing.T) {
	room, member := make([]byte, 0, 1<<10), authparam.AppendMember(nil, token)
	allocs := testing.AllocsPerRun(100, func() {
		authparam.BlankForm(append(room, "a=1&auth=x"...))
		authparam.InsertJSON(append(room, `{"a":1}`...), member)
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
