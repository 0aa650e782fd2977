package bench

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"golang.org/x/oauth2"
)

// BenchmarkOverhead is what a transport adds to a request over a portal that
// takes no time, as a multiple of what oauth2's adds, which sets a header and
// looks at nothing.
func BenchmarkOverhead(b *testing.B) {
	source, endpoint := newProgram(b)
	static := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "token", Expiry: time.Now().Add(lifetime)}, nil)
	const form, json = "application/x-www-form-urlencoded", "application/json"
	kibibyte := strings.Repeat("b", 1<<10)
	for _, c := range []struct {
		name, method, contentType, body string
		placement                       b24oauth.Placement
	}{
		{"GET", "crm.deal.list", "", "", b24oauth.PlaceAuto},
		{"GET with a query", "crm.deal.list?filter[ID]=1&select[]=ID", "", "", b24oauth.PlaceAuto},
		{"form of 1 KiB", "crm.deal.add", form, "a=" + kibibyte, b24oauth.PlaceAuto},
		{"JSON of 1 KiB", "crm.deal.add", json, `{"a":"` + kibibyte + `"}`, b24oauth.PlaceAuto},
		{"version 3 of 1 KiB", "api/tasks.task.add", json, `{"a":"` + kibibyte + `"}`, b24oauth.PlaceAuto},
		{"GET, token in the header", "crm.deal.list", "", "", b24oauth.PlaceHeader},
		{"form of 1 KiB, token in the header", "crm.deal.add", form, "a=" + kibibyte, b24oauth.PlaceHeader},
	} {
		b.Run(c.name, func(b *testing.B) {
			through := func(rt http.RoundTripper) func() {
				req, body := newRequest(b, endpoint+c.method, c.contentType, c.body)
				return func() {
					if c.body != "" {
						body.Reset([]byte(c.body))
						req.Body = io.NopCloser(body)
					}
					resp, err := rt.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
			}
			took := alternate(b,
				through(stub),
				through(&oauth2.Transport{Source: static, Base: stub}),
				through(&b24oauth.Transport{Source: source, Base: stub, Placement: c.placement}))
			b.ReportMetric(float64(took[2]-took[0])/float64(took[1]-took[0]), "x-of-oauth2's")
			b.ReportMetric(float64(took[2]-took[0]), "ns/request")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// newRequest returns a request that can be sent again and again, and its body,
// which has to be set anew each time.
func newRequest(b *testing.B, url, contentType, body string) (*http.Request, *bytes.Reader) {
	b.Helper()
	method, r := http.MethodGet, bytes.NewReader([]byte(body))
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(b.Context(), method, url, r)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req, r
}

// alternate calls each function b.N times in turns, and returns for each the
// median of what one call took in a turn, in nanoseconds.
func alternate(b *testing.B, calls ...func()) (took []float64) {
	const share = 200
	all := make([][]float64, len(calls))
	for range max(b.N/share, 20) {
		for i, call := range calls {
			begun := time.Now()
			for range share {
				call()
			}
			all[i] = append(all[i], float64(time.Since(begun))/share)
		}
	}
	for _, of := range all {
		took = append(took, median(of))
	}
	return took
}
