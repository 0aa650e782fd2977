package resterror

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// How much of a body is looked at, and for how long. Errors are far shorter,
// and come at once.
const (
	maxBody = 64 << 10
	maxWait = 5 * time.Second
)

// Inspect reads what a 401 says about the token, as Read does, from any
// Content-Encoding that it knows. A body without an end would hold the answer
// back for ever: so Inspect returns as soon as the code is there, and else when
// 64 KiB or five seconds have passed or ctx ends; such an answer is Other.
//
// The response keeps its body, whole. What comes of it after Inspect is read
// ahead, up to 64 KiB in all, so that its connection is free for the renewal
// and the repetition as soon as it has ended; closing the body ends that.
func Inspect(ctx context.Context, resp *http.Response) (v Verdict, code string) {
	if resp.Body == nil || resp.Body == http.NoBody {
		return Ambiguous, ""
	}
	read := reading(resp.Header)
	ahead := readAhead(ctx, resp.Body)
	resp.Body = ahead
	over := time.NewTimer(maxWait)
	defer over.Stop()
	for judged, last := 0, false; ; {
		select {
		case <-ahead.arrived:
		case <-over.C:
			last = true
		case <-ctx.Done():
			last = true
		}
		head, full, err := ahead.start()
		last = last || full || err != nil
		if !last && len(head) < judged+step(judged) {
			continue
		}
		judged = len(head)
		v, code, decided := read(head)
		switch {
		case decided, err == io.EOF:
			return v, code
		case last:
			return Other, ""
		}
	}
}

// step is by how much a body has to grow until it is judged anew: one that
// comes byte by byte would cost the square of its length.
func step(judged int) int {
	if judged < 4<<10 {
		return 1
	}
	return judged / 8
}

// reading returns Read for bodies of the answer's Content-Encoding. A body in
// one that only the caller can read says as much as none.
func reading(header http.Header) func([]byte) (Verdict, string, bool) {
	encoding := ""
	for name, values := range header { // a Base of the user's may have spelled it in its own way
		if strings.EqualFold(name, "Content-Encoding") {
			encoding = strings.Join(values, ",")
		}
	}
	switch strings.ToLower(encoding) {
	case "", "identity":
		return Read
	case "gzip", "x-gzip":
		return readGzip
	}
	return unreadable
}

func unreadable([]byte) (Verdict, string, bool) { return Ambiguous, "", true }

// readGzip is Read for a compressed body.
func readGzip(body []byte) (v Verdict, code string, decided bool) {
	r := &beginning{Reader: bytes.NewReader(body)}
	z, err := gzip.NewReader(r)
	if err != nil && !r.short {
		return unreadable(body)
	}
	if err != nil {
		return Ambiguous, "", false
	}
	// Where the body is cut off, what came before is decompressed all the same.
	plain, _ := io.ReadAll(io.LimitReader(z, maxBody))
	v, code, decided = Read(plain)
	return v, code, decided || !r.short || len(plain) == maxBody
}
