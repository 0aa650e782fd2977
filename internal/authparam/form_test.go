package authparam_test

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/google/go-cmp/cmp"
)

func TestFormCarriesTheTokenFirst(t *testing.T) {
	for _, c := range []struct{ name, body, token, want string }{
		{"empty body", "", "t", "auth=t&"},
		{"token is escaped", "", "a b&c=%+é", "auth=a+b%26c%3D%25%2B%C3%A9&"},
		{"long token", "a=1", strings.Repeat("t", 500), "auth=" + strings.Repeat("t", 500) + "&a=1"},
		{"order and escapes", "b=%7e+%2F&a=ü&&b=1&", "t", "auth=t&b=%7e+%2F&a=ü&&b=1&"},
		{"malformed escapes", "a=%zz&%=%", "t", "auth=t&a=%zz&%=%"},
		{"auth first", "auth=x&a=1", "t", "auth=t&======&a=1"},
		{"auth last", "a=1&auth=x", "t", "auth=t&a=1&======"},
		{"auth in the middle", "a=1&auth=x&b=2", "t", "auth=t&a=1&======&b=2"},
		{"auth without a value", "auth&a=1&auth", "t", "auth=t&====&a=1&===="},
		{"spaces before auth stay", "+%20auth=x&a=1", "t", "auth=t&+%20======&a=1"},
		{"array that is not closed", "auth[x=1&auth%5b=2", "t", "auth=t&========&========="},
		{"access_token stays", "access_token=x", "t", "auth=t&access_token=x"},
		{"raw NUL cuts a name", "auth\x00x=1&\x00auth=1", "t", "auth=t&========&\x00auth=1"},
	} {
		everyWay(c.body, func(r io.Reader, size int) {
			got, err := drain(t, authparam.NewFormReader(r, c.token), size)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, read by %d from %+v (-want +got):\n%s", c.name, size, r, diff)
			}
			if int64(len(got)) != int64(len(c.body))+authparam.FormOverhead(c.token) {
				t.Errorf("%s: grew by %d, announced %d", c.name, len(got)-len(c.body), authparam.FormOverhead(c.token))
			}
		})
	}
}

func TestFormReadsNamesAsPHPDoes(t *testing.T) {
	for _, c := range names {
		body := "a=1&" + c.field + "&b=2&" + c.field
		everyWay(body, func(r io.Reader, size int) {
			got, _ := drain(t, authparam.NewFormReader(r, "t"), size)
			checkForm(t, body, "t", got)
		})
	}
}

// checkForm checks got field by field against the body that it came from.
func checkForm(t *testing.T, body, token, got string) {
	t.Helper()
	fields := strings.Split(got, "&")
	if fields[0] != "auth="+url.QueryEscape(token) {
		t.Errorf("%q: the first field is %q", body, fields[0])
	}
	fields = fields[1:]
	before := strings.Split(body, "&")
	if len(before) != len(fields) {
		t.Fatalf("%q became %q", body, got)
	}
	for i, field := range fields {
		if phpName(before[i]) != "auth" {
			if field != before[i] {
				t.Errorf("%q became %q", before[i], field)
			}
			continue
		}
		if name := phpName(field); name != "" || len(field) != len(before[i]) || strings.Contains(field, "stale") {
			t.Errorf("%q became %q", before[i], field)
		}
	}
}

func TestFormPassesOnHowItsBodyIsRead(t *testing.T) {
	const body = "a=1&auth=x&%61uth=2&au"
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
		{"failing on the second read", func(r io.Reader) io.Reader {
			return iotest.TimeoutReader(iotest.OneByteReader(r))
		}, iotest.ErrTimeout, body[:1]},
	} {
		for _, size := range []int{0, 1, 3, 64} {
			got, err := drain(t, authparam.NewFormReader(c.wrap(strings.NewReader(body)), "t"), size)
			if !errors.Is(err, c.err) {
				t.Errorf("%s: error %v, want %v", c.name, err, c.err)
			}
			want := strings.NewReplacer("auth=x", "======", "%61uth=2", "========").Replace(c.body)
			if diff := cmp.Diff("auth=t&"+want, got); diff != "" {
				t.Errorf("%s, read by %d (-want +got):\n%s", c.name, size, diff)
			}
		}
	}
}

func TestFormReturnsNothingOnlyWhenItsBodyDoes(t *testing.T) {
	p := make([]byte, 100)
	r := authparam.NewFormReader(iotest.OneByteReader(strings.NewReader("%61%75%74%68=1")), "t")
	for {
		n, err := r.Read(p)
		if n == 0 && err == nil {
			t.Error("0, nil")
		}
		if err != nil {
			break
		}
	}
	r = authparam.NewFormReader(io.MultiReader(strings.NewReader("au"), idle{}), "")
	var got int
	for range 5 {
		n, err := r.Read(p)
		if err != nil {
			t.Error(err)
		}
		got += n
	}
	if want := len("auth=&"); got != want {
		t.Errorf("%d bytes from a body that does not get on, want %d", got, want)
	}
}

func TestFormReaderPassesIotest(t *testing.T) {
	r := authparam.NewFormReader(strings.NewReader("a=1&auth=x&b=2"), "t")
	if err := iotest.TestReader(r, []byte("auth=t&a=1&======&b=2")); err != nil {
		t.Error(err)
	}
}

func FuzzForm(f *testing.F) {
	for i, c := range names {
		f.Add([]byte(c.field+"&a=1&"+c.field), "token", uint8(i), uint8(i/2), i%2 == 0)
	}
	f.Add([]byte("auth[x=1&\x00&+%2"), "a b", uint8(1), uint8(0), true)
	f.Fuzz(func(t *testing.T, body []byte, token string, given, size uint8, early bool) {
		in := bytes.Clone(body)
		r := authparam.NewFormReader(chunked{bytes.NewReader(in), int(given), early}, token)
		got, err := drain(t, r, int(size))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got)) != int64(len(body))+authparam.FormOverhead(token) {
			t.Errorf("%q: grew by %d, announced %d", body, len(got)-len(body), authparam.FormOverhead(token))
		}
		if !bytes.Equal(in, body) {
			t.Error("the caller's body was written to")
		}
		checkForm(t, string(body), token, got)
	})
}
