package install

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// How much of a request is read. Bitrix24 sends about 1 KiB, and more with the data
// of some events.
const (
	maxGrant = 64 << 10
	maxEvent = 1 << 20
)

// form is what a request of Bitrix24's brings. A field that comes twice is an
// error: PHP would take the last one and net/http the first, so what one of them
// checks the other would not use.
type form struct {
	query, body url.Values
	now         time.Time
	size        int64 // of the body
	err         error // the first field that came twice
}

func readForm(r *http.Request, most int64) (*form, error) {
	var size counter
	if r.Body != nil {
		r.Body = http.MaxBytesReader(nil, r.Body, most)
		size.ReadCloser = r.Body
		r.Body = &size
	}
	if err := r.ParseForm(); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, fmt.Errorf("b24oauth/install: the request is larger than %d KiB", most>>10)
		}
		return nil, errors.New("b24oauth/install: the request is no form, or a damaged one") // the error itself may quote it
	}
	return &form{query: r.URL.Query(), body: r.PostForm, now: time.Now().Round(0), size: size.n}, nil
}

// counter counts what is read: a request need not say how long it is.
type counter struct {
	io.ReadCloser
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

func (f *form) has(name string) bool { return f.body.Has(name) }

// get returns a field of the body, "" if there is none.
func (f *form) get(name string) string { return f.of(f.body, name) }

// anywhere returns a field of the body or else of the query.
func (f *form) anywhere(name string) string {
	if f.body.Has(name) {
		return f.get(name)
	}
	return f.of(f.query, name)
}

func (f *form) of(values url.Values, name string) string {
	if len(values[name]) > 1 && f.err == nil {
		f.err = fmt.Errorf("b24oauth/install: the request has the field %s twice: Bitrix24 sends it once", name)
	}
	return values.Get(name)
}
