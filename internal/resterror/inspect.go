package resterror

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// Inspect reads what a 4xx answer says about the token, as Read does, and
// leaves its body whole. A body that is read to its end is closed, so that its
// connection is free for the renewal and the repetition.
func Inspect(resp *http.Response) (v Verdict, code string) {
	if resp.Body == nil {
		return Read(resp.StatusCode, nil)
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), failing{err}), resp.Body}
		return Other, ""
	case len(head) > maxBody:
		resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	default:
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(head))
	}
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case strings.EqualFold(encoding, "gzip"):
		head = gunzip(head)
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		head = nil // the caller can read it; here it says as much as none
	}
	return Read(resp.StatusCode, head)
}

// gunzip returns the start of a compressed body, nothing if it is none.
func gunzip(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	// What follows a cut is not missed: the code stands at the beginning.
	plain, _ := io.ReadAll(io.LimitReader(z, maxBody))
	return plain
}

// failing is the end of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// readCloser is a body that is read through something and closed as it is.
type readCloser struct {
	io.Reader
	io.Closer
}
