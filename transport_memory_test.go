package b24oauth_test

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

func TestGuarantee11ConstantMemoryAndFourAllocations(t *testing.T) {
	t.Run("the usual call allocates four times at most", fourAllocations)
	t.Run("a gigabyte of any kind takes no memory", gigabyte)
}

// drained answers every request with the same response, when it has read it.
func drained(resp *http.Response) tripper {
	return func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return nil, err
			}
			req.Body.Close()
		}
		return resp, nil
	}
}

func fourAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	p := newProgramAt(t, stubPortal)
	base := drained(answer(200, "{}"))
	through := p.over(base)
	for _, c := range []struct {
		name string
		req  *http.Request
		body string
	}{
		{"GET", get(t, stubPortal+"crm.deal.list?start=50"), ""},
		{"POST form", post(t, stubPortal+"crm.deal.add", formType, "TITLE=x&STAGE=y"), "TITLE=x&STAGE=y"},
		{"POST JSON", post(t, stubPortal+"crm.deal.add", jsonType, `{"fields":{"TITLE":"x"}}`), `{"fields":{"TITLE":"x"}}`},
		{"POST JSON of v3", post(t, stubPortal+"api/tasks.task.add", jsonType, `{"fields":{"TITLE":"x"}}`), `{"fields":{"TITLE":"x"}}`},
	} {
		measure := func(rt http.RoundTripper) float64 {
			body := new(bytes.Reader)
			return testing.AllocsPerRun(200, func() {
				if c.body != "" {
					body.Reset([]byte(c.body))
					c.req.Body = io.NopCloser(body)
				}
				if _, err := rt.RoundTrip(c.req); err != nil {
					t.Fatal(err)
				}
			})
		}
		added := measure(through) - measure(base)
		t.Logf("%s: %v allocations", c.name, added)
		if added > 4 {
			t.Errorf("%s: %v allocations, want 4 at most", c.name, added)
		}
	}
}

// repeated is block again and again, n bytes in all.
type repeated struct {
	block string
	at, n int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n-r.at)], r.block[r.at%len(r.block):])
	r.at += n
	return n, nil
}

func gigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("sends three gigabytes")
	}
	size, limit := 1<<30, uint64(256<<10)
	if raceEnabled {
		size = 1 << 24 // the race detector is slow, and counts what it allocates itself
	}
	p := newProgramAt(t, stubPortal)
	for _, c := range []struct{ name, contentType, start, block, end string }{
		{"form", formType, "a=1&", strings.Repeat("fields[TITLE]=%D0%9F+world&auth=stale&author=me&", 1000), "&b=2"},
		{"JSON", jsonType, `{"a":[`, strings.Repeat(`{"id":17,"auth":"nested","TITLE":"a \"quoted\" word"},`, 1000), `0],"b":2}`},
		{"other", "application/octet-stream", "", strings.Repeat("0123456789abcdef", 4096), ""},
	} {
		n := size - size%len(c.block)
		req := post(t, stubPortal+"crm.deal.add", c.contentType, io.MultiReader(strings.NewReader(c.start), &repeated{block: c.block, n: n}, strings.NewReader(c.end)))
		var sent int64
		tr := p.over(tripper(func(req *http.Request) (*http.Response, error) {
			var err error
			sent, err = io.Copy(io.Discard, req.Body)
			req.Body.Close()
			return answer(200, "{}"), err
		}))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := tr.RoundTrip(req)
		runtime.ReadMemStats(&after)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err)
		}
		if sent < int64(n) {
			t.Errorf("%s: %d bytes sent, want %d at least", c.name, sent, n)
		}
		grown := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d MiB sent, %d bytes allocated", c.name, sent>>20, grown)
		if grown > limit {
			t.Errorf("%s: %d bytes allocated, want %d at most", c.name, grown, limit)
		}
	}
}
