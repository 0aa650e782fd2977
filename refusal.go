package b24oauth

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	"github.com/b24go/b24oauth/internal/resterror"
)

// maxRefusal is how much of a 4xx answer is read to find its error code.
const maxRefusal = 64 << 10

// inspect reads what a 4xx answer says about the token, and leaves its body
// whole. A body that is read to its end is closed, so that its connection is
// free for the renewal and the repetition.
func inspect(resp *http.Response) (resterror.Verdict, string) {
	if resp.Body == nil {
		return resterror.Read(resp.StatusCode, nil)
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal+1))
	switch {
	case err != nil:
		resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), failing{err}), resp.Body}
		return resterror.Other, ""
	case len(head) > maxRefusal:
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
	return resterror.Read(resp.StatusCode, head)
}

// gunzip returns the start of a compressed body, nothing if it is none.
func gunzip(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	// What follows a cut is not missed: the code stands at the beginning.
	plain, _ := io.ReadAll(io.LimitReader(z, maxRefusal))
	return plain
}

// failing is the end of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
