package outgoing_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth/internal/outgoing"
)

// rewound returns a request whose GetBody rewinds the one reader there is, as
// go-retryablehttp makes it of anything that can seek.
func rewound(t *testing.T, contentType string, r io.ReadSeeker, length int64) *http.Request {
	t.Helper()
	req := post(t, contentType, nil)
	req.Body, req.ContentLength = io.NopCloser(r), length
	req.GetBody = func() (io.ReadCloser, error) {
		_, err := r.Seek(0, io.SeekStart)
		return io.NopCloser(r), err
	}
	return req
}

// A portal may refuse a token while the body is being sent, and what sends it
// reads on.
func TestAttemptBeforeTakesNothingFromAReaderThatIsRewound(t *testing.T) {
	small, large := `{"a":1}`, `{"a":"`+strings.Repeat("x", 100<<10)+`"}`
	for _, c := range []struct{ name, contentType, body, want string }{
		{"other", "text/plain", large, large},
		{"form", formType, "a=" + large, "auth=second&a=" + large},
		{"JSON", jsonType, large, large[:len(large)-1] + `,"auth":"second"}`},
		{"JSON that is no object", jsonType, "[" + large + "]", "[" + large + "]"},
		{"small", jsonType, small, small[:len(small)-1] + `,"auth":"second"}`},
		{"small and other", "text/plain", small, small},
	} {
		for kind, r := range map[string]io.ReadSeeker{
			"a strings.Reader": strings.NewReader(c.body),
			"a file":           struct{ io.ReadSeeker }{strings.NewReader(c.body)},
		} {
			for _, length := range []int64{int64(len(c.body)), 0} {
				req := rewound(t, c.contentType, r, length)
				if _, err := r.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				var request outgoing.Request
				request.Init(req, outgoing.Auto, true)
				first, err := request.Prepare(outgoing.NewToken("first"), toPortal)
				if err != nil {
					t.Fatal(err)
				}
				part := make([]byte, 5)
				if _, err := io.ReadFull(first.Body, part); err != nil {
					t.Fatal(err)
				}
				if !request.Again() {
					t.Fatalf("%s in %s cannot be sent again", c.name, kind)
				}
				second, err := request.Prepare(outgoing.NewToken("second"), toPortal)
				if err != nil {
					t.Fatal(err)
				}
				io.CopyN(io.Discard, first.Body, 1<<10) // whatever comes of it
				if got, err := io.ReadAll(second.Body); string(got) != c.want || err != nil {
					t.Errorf("%s of length %d in %s: %d bytes are sent again, and %v; want %d", c.name, length, kind, len(got), err, len(c.want))
				}
				request.Finish()
			}
		}
	}
}

// waiting is a reader that can seek, and has each Read wait.
type waiting struct {
	io.ReadSeeker
	reads chan struct{}
}

func (w waiting) Read(p []byte) (int, error) {
	<-w.reads
	return w.ReadSeeker.Read(p)
}

func TestReaderIsNotRewoundWhileItIsBeingRead(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // when the read returns
		want  bool
	}{"soon": {time.Second / 2, true}, "late": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := waiting{strings.NewReader("body"), make(chan struct{})}
				req := rewound(t, "text/plain", w, 4)
				var request outgoing.Request
				request.Init(req, outgoing.Auto, true)
				defer request.Finish()
				first, err := request.Prepare(outgoing.NewToken("first"), toPortal)
				if err != nil {
					t.Fatal(err)
				}
				go first.Body.Read(make([]byte, 1))
				synctest.Wait()
				time.AfterFunc(c.after, func() { close(w.reads) })
				begun := time.Now()
				if got := request.Again(); got != c.want || time.Since(begun) > time.Second {
					t.Errorf("it can be sent again: %t after %v, want %t within a second", got, time.Since(begun), c.want)
				}
				<-w.reads
			})
		})
	}
}
