package authparam_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/b24go/b24oauth/internal/racetest"
)

const token = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef012345"

// A repeated reader returns block again and again, n bytes in all.
type repeated struct {
	block []byte
	n, at int64
}

func newRepeated(block string, n int64) *repeated {
	return &repeated{block: bytes.Repeat([]byte(block), 1+(64<<10)/len(block)), n: n}
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.n-r.at)]
	n := copy(p, r.block[r.at%int64(len(r.block)):])
	r.at += int64(n)
	return n, nil
}

const (
	formBlock = "fields[TITLE]=%D0%9F%D1%80%D0%B8+world&fields[auth]=x&id=17&auth=stale&filter[%3EDATE]=2026-01-01&author=me&"
	jsonBlock = `{"id":17,"auth":"nested","TITLE":"a \"quoted\" word and some more text to read","tags":["a","b"],"n":-1.5e3},`
)

func TestAGigabyteTakesNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads two gigabytes")
	}
	const limit = 256 << 10
	size := int64(1 << 30)
	if racetest.Enabled {
		size = 64 << 20
	}
	for _, c := range []struct {
		name     string
		body     func() io.Reader
		reader   func(io.Reader, string) io.Reader
		overhead int64
	}{
		{"form", formBody(size), authparam.NewFormReader, authparam.FormOverhead(token)},
		{"JSON", jsonBody(size), authparam.NewJSONReader, authparam.JSONOverhead(token)},
		{"JSON, mostly white space after it", blankBody(size), authparam.NewJSONReader, authparam.JSONOverhead(token)},
	} {
		body := c.body()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := io.Copy(io.Discard, c.reader(body, token))
		runtime.ReadMemStats(&after)
		if err != nil || n != size+c.overhead {
			t.Errorf("%s: %d bytes, %v; want %d", c.name, n, err, size+c.overhead)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > limit {
			t.Errorf("%s: allocated %d bytes", c.name, grown)
		}
	}
}

func formBody(size int64) func() io.Reader {
	return func() io.Reader { return newRepeated(formBlock, size) }
}

func blankBody(size int64) func() io.Reader {
	return func() io.Reader {
		return io.MultiReader(strings.NewReader("{}"), newRepeated(" \n", size-2))
	}
}

func jsonBody(size int64) func() io.Reader {
	const open, end = `{"items":[`, `0]}`
	return func() io.Reader {
		n := size - int64(len(open)+len(end))
		n -= n % int64(len(jsonBlock))
		pad := strings.Repeat(" ", int(size-n)-len(open)-len(end))
		return io.MultiReader(strings.NewReader(open), newRepeated(jsonBlock, n), strings.NewReader(pad+end))
	}
}

func TestReadersAllocateOnce(t *testing.T) {
	p := make([]byte, 32<<10)
	body := new(bytes.Reader)
	for _, c := range []struct {
		name string
		body []byte
		new  func(io.Reader, string) io.Reader
	}{
		{"form", []byte(formBlock), authparam.NewFormReader},
		{"JSON", []byte(`{"a":` + jsonBlock[:len(jsonBlock)-1] + `}`), authparam.NewJSONReader},
	} {
		allocs := testing.AllocsPerRun(100, func() {
			body.Reset(c.body)
			r := c.new(body, token)
			for {
				if _, err := r.Read(p); err != nil {
					return
				}
			}
		})
		if allocs > 1 {
			t.Errorf("%s: %v allocations", c.name, allocs)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		authparam.FormOverhead(token)
		authparam.JSONOverhead(token)
	})
	if allocs > 0 {
		t.Errorf("overheads: %v allocations", allocs)
	}
}

func BenchmarkForm(b *testing.B) {
	benchmark(b, formBody(1<<20), authparam.NewFormReader)
}

func BenchmarkFormOfShortFields(b *testing.B) {
	benchmark(b, func() io.Reader { return newRepeated("a=1&", 1<<20) }, authparam.NewFormReader)
}

func BenchmarkFormOfOneField(b *testing.B) {
	benchmark(b, func() io.Reader { return newRepeated("YWFhYWFh", 1<<20) }, authparam.NewFormReader)
}

func BenchmarkJSON(b *testing.B) {
	benchmark(b, jsonBody(1<<20), authparam.NewJSONReader)
}

func BenchmarkJSONOfNumbers(b *testing.B) {
	benchmark(b, func() io.Reader {
		return io.MultiReader(strings.NewReader(`{"a":[`), newRepeated("17,", 3<<20/3), strings.NewReader("0]}"))
	}, authparam.NewJSONReader)
}

func benchmark(b *testing.B, body func() io.Reader, reader func(io.Reader, string) io.Reader) {
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, reader(body(), token)); err != nil {
			b.Fatal(err)
		}
	}
}

// free is a body of so many bytes that costs nothing to read: what a buffer
// holds stays in it, but for the object's ends.
type free struct{ left int64 }

func (f *free) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := int(min(f.left, int64(len(p))))
	if p[0] = '"'; f.left == size {
		p[0] = '{'
	}
	if f.left -= int64(n); f.left == 0 {
		p[n-1] = '}'
	} else {
		p[n-1] = '"'
	}
	return n, nil
}

const size = 1 << 30

// BenchmarkUpload is a JSON object of 1 GiB in reads as net/http does them.
func BenchmarkUpload(b *testing.B) {
	for name, length := range map[string]int{"32KiB": 32 << 10, "4KiB": 4 << 10} {
		b.Run(name, func(b *testing.B) {
			p := make([]byte, length)
			b.SetBytes(size)
			for b.Loop() {
				r := authparam.NewJSONReader(&free{size}, token)
				for {
					if _, err := r.Read(p); err != nil {
						break
					}
				}
			}
		})
	}
}
