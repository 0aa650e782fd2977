package authparam_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// names is what PHP makes of a field. TestPHPReadsNamesAsTheTableSays has
// PHP's own word for it.
var names = []struct {
	field  string
	isAuth bool // PHP reads it as auth or auth[…]
}{
	{"auth=stale", true},
	{"auth=", true},
	{"auth", true},
	{"auth==x", true},
	{"%61uth=stale", true},
	{"a%75%74h=stale", true},
	{"aut%68=stale", true},
	{"%61%75%74%68", true},
	{"+auth=stale", true},
	{"%20auth=stale", true},
	{"+%20+%20+auth=stale", true},
	{"auth[]=stale", true},
	{"auth[key]=stale", true},
	{"auth%5Bkey%5D=stale", true},
	{"auth%5b%5d=stale", true},
	{"%20%61uth%5b][x]=stale", true},
	{"auth%00=stale", true},
	{"auth%00more=stale", true},
	{"auth%00[]=stale", true},

	{"author=x", false},
	{"xauth=x", false},
	{"AUTH=x", false},
	{"Auth=x", false},
	{"aut=x", false},
	{"aut", false},
	{"a=uth", false},
	{"%61", false},
	{"fields[auth]=x", false},
	{"fields%5Bauth%5D=x", false},
	{"auth]=x", false},
	{"auth.x=x", false},
	{"auth.[x]=x", false},
	{"auth+=x", false},
	{"auth%20=x", false},
	{"auth+[x]=x", false},
	{"auth_=x", false},
	{"auth%=x", false},
	{"auth%", false},
	{"auth%5=x", false},
	{"auth%5", false},
	{"auth%5G=x", false},
	{"aut%6=x", false},
	{"auth%3Dx=x", false},
	{"auth%26x=x", false},
	{"auth;x=x", false},
	{"%09auth=x", false},
	{"%0Aauth=x", false},
	{"%C2%A0auth=x", false},
	{"%2Bauth=x", false},
	{"%2561uth=x", false},
	{"%00auth=x", false},
	{"[auth]=x", false},
	{"=auth", false},
	{"+=auth", false},
	{"x=auth=y", false},
	{"", false},
	{"+", false},
	{"access=x", false},
	{"access_tokens=x", false},
}

var escape = regexp.MustCompile("%[0-9A-Fa-f]{2}")

// phpDecode is urldecode.
func phpDecode(s string) string {
	return escape.ReplaceAllStringFunc(strings.ReplaceAll(s, "+", " "), func(s string) string {
		c, _ := strconv.ParseUint(s[1:], 16, 8)
		return string([]byte{byte(c)})
	})
}

// phpName is the variable that PHP sets for a field, without the index of an
// array and without PHP's renaming of dots and spaces.
func phpName(field string) string {
	name, _, _ := strings.Cut(field, "=")
	name = strings.TrimLeft(phpDecode(name), " ")
	name, _, _ = strings.Cut(name, "\x00")
	name, _, _ = strings.Cut(name, "[")
	return name
}

// A chunked reader returns at most size bytes at a time, its last ones
// together with the end of the file if early is set.
type chunked struct {
	r     *bytes.Reader
	size  int
	early bool
}

func (c chunked) Read(p []byte) (int, error) {
	if c.size > 0 {
		p = p[:min(len(p), c.size)]
	}
	n, err := c.r.Read(p)
	if c.early && c.r.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

// drain reads r with a buffer of size bytes; of many if size is 0. It checks
// that the end stays the end.
func drain(t *testing.T, r io.Reader, size int) (string, error) {
	t.Helper()
	if size == 0 {
		size = 4096
	}
	var b strings.Builder
	p := make([]byte, size)
	for idle := 0; idle < 100; idle++ {
		n, err := r.Read(p)
		b.Write(p[:n])
		if n > 0 {
			idle = 0
		}
		if err == nil {
			continue
		}
		if n, again := r.Read(p); n != 0 || !errors.Is(again, err) {
			t.Errorf("after the error %v, Read returns %d, %v", err, n, again)
		}
		if err == io.EOF {
			err = nil
		}
		return b.String(), err
	}
	t.Fatal("Read does not get on")
	return "", nil
}

// everyWay calls check for each of the ways in which a body can be given and
// read; size is for drain.
func everyWay(body string, check func(r io.Reader, size int)) {
	for _, given := range []int{0, 1, 2, 3, 7, 63, 64} {
		for _, size := range []int{0, 1, 2, 5, 63, 64, 65, 200} {
			for _, early := range []bool{false, true} {
				check(chunked{bytes.NewReader([]byte(body)), given, early}, size)
			}
		}
	}
}

// A readerCase is an odd way of a body.
type readerCase struct {
	name string
	wrap func(io.Reader) io.Reader
	err  error
	body string // what is read of the body before err
}

// stutter returns nothing every other time.
type stutter struct {
	r    io.Reader
	odds bool
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.odds = !s.odds; s.odds {
		return 0, nil
	}
	return s.r.Read(p)
}
