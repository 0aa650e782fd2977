package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/redis/go-redis/v9"
)

const (
	handoverVariable  = "B24OAUTH_TEST_HANDOVER_TASK"
	handoverProcesses = 8
	handoverExchange  = time.Second
)

// handoverTask is what a process of a handover is told, as JSON in
// handoverVariable.
type handoverTask struct {
	Store    fleetStore
	Keys     int
	TokenURL string
}

// handoverWord is what such a process tells, as a line of JSON: when it had the
// token of a grant, and in the end what it asked of the Store.
type handoverWord struct {
	Key            string
	At             int64 // Unix nanoseconds
	Failed         int64 // calls before that
	Loads, Updates int64
	Failure        string
}

// BenchmarkHandover is how long other processes wait for a pair that one of them
// has fetched: 8 processes meet one expired grant, whose exchange takes a second and up to a tenth.
// Reported are the median and the longest time from when the first process has
// the new token until each other one has it, over b.N handovers, and how often a
// process reads the Store for each. It needs the services:
//
//	eval "$(scripts/services)" && cd integration && go test -run '^$' -bench Handover -benchtime 5x
func BenchmarkHandover(b *testing.B) {
	for _, place := range fleetPlaces() {
		b.Run(place.name, func(b *testing.B) { handOver(b, place, 1) })
	}
}

// BenchmarkHandoverOfAThousand is the same with 1,000 grants at once, for what it
// costs the Store.
func BenchmarkHandoverOfAThousand(b *testing.B) {
	for _, place := range fleetPlaces() {
		b.Run(place.name, func(b *testing.B) { handOver(b, place, 1000) })
	}
}

func handOver(b *testing.B, place fleetPlace, grants int) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(handoverExchange + rand.N(handoverExchange/10)) // in step with nobody who waits
		spent := r.FormValue("refresh_token")
		fmt.Fprintf(w, `{"access_token":"access-%s","refresh_token":"next-%[1]s","expires_in":3600,"client_endpoint":"https://example.bitrix24.com/rest/"}`, spent)
	}))
	defer server.Close()
	var waits []time.Duration
	var loads, updates, failed, total float64
	for range b.N {
		begun := time.Now()
		words := oneHandover(b, handoverTask{place.fresh(b), grants, server.URL})
		total += time.Since(begun).Seconds()
		first := make(map[string]int64)
		for _, w := range words {
			if at, ok := first[w.Key]; w.Key != "" && (!ok || w.At < at) {
				first[w.Key] = w.At
			}
		}
		for _, w := range words {
			failed += float64(w.Failed)
			switch {
			case w.Failure != "":
				b.Fatal(w.Failure)
			case w.Key == "":
				loads, updates = loads+float64(w.Loads), updates+float64(w.Updates)
			case w.At > first[w.Key]:
				waits = append(waits, time.Duration(w.At-first[w.Key]))
			}
		}
	}
	slices.Sort(waits)
	each := float64(b.N * grants * handoverProcesses)
	b.ReportMetric(float64(waits[len(waits)/2].Milliseconds()), "ms-p50")
	b.ReportMetric(float64(waits[len(waits)-1].Milliseconds()), "ms-max")
	b.ReportMetric(loads/each, "loads/grant")
	b.ReportMetric(updates/each, "updates/grant")
	b.ReportMetric(failed/each, "failed/grant")
	b.ReportMetric(total/float64(b.N), "s/handover")
	b.ReportMetric(0, "ns/op")
}

// oneHandover stores expired grants and lets all processes ask for their tokens.
func oneHandover(b *testing.B, task handoverTask) (words []handoverWord) {
	store, closeStore, err := task.Store.open()
	if err != nil {
		b.Fatal(err)
	}
	defer closeStore()
	config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", Store: store}
	for i := range task.Keys {
		if err := config.Save(b.Context(), handoverKey(i), &b24oauth.Grant{
			ClientEndpoint: "https://example.bitrix24.com/rest/", AccessToken: "old", RefreshToken: fmt.Sprint("refresh-", i),
			Issued: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour),
		}); err != nil {
			b.Fatal(err)
		}
	}
	text, err := json.Marshal(task)
	if err != nil {
		b.Fatal(err)
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex // guards words
		ins []io.WriteCloser
	)
	ready := make(chan error)
	for range handoverProcesses {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHandoverProcess$")
		cmd.Env = append(os.Environ(), handoverVariable+"="+string(text))
		cmd.Stderr = os.Stderr
		in, inErr := cmd.StdinPipe()
		out, outErr := cmd.StdoutPipe()
		if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
			b.Fatal(err)
		}
		ins = append(ins, in)
		wg.Go(func() {
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "ready" {
				ready <- fmt.Errorf("the process says %q", lines.Text())
			} else {
				ready <- nil
			}
			for lines.Scan() {
				var w handoverWord
				if json.Unmarshal(lines.Bytes(), &w) == nil { // else it is the testing package's
					mu.Lock()
					words = append(words, w)
					mu.Unlock()
				}
			}
			cmd.Wait()
		})
	}
	for range ins {
		if err := <-ready; err != nil {
			b.Fatal(err)
		}
	}
	for _, in := range ins {
		in.Close()
	}
	wg.Wait()
	if want := handoverProcesses * (task.Keys + 1); len(words) != want {
		b.Fatalf("%d words of the processes, want %d", len(words), want)
	}
	return words
}

func handoverKey(i int) string { return "grant-" + strconv.Itoa(i) }

// TestHandoverProcess is no test but what a process of a handover does.
func TestHandoverProcess(t *testing.T) {
	text := os.Getenv(handoverVariable)
	if text == "" {
		t.Skip("this is for the processes that BenchmarkHandover starts")
	}
	redis.SetLogger(noRedisLog{})
	var task handoverTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	store, closeStore, err := task.Store.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	counted := &countedStore{Store: store}
	config := &b24oauth.Config{ClientID: "app.1", ClientSecret: "secret", TokenURL: task.TokenURL, Store: counted}
	for i := range task.Keys { // all processes know the grants, and that they have expired
		if _, err := config.TokenSource(handoverKey(i)).Endpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	loads, updates := counted.loads.Load(), counted.updates.Load()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until all are
	var wg sync.WaitGroup
	var mu sync.Mutex // for the lines
	say := func(w handoverWord) {
		line, err := json.Marshal(w)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(string(line))
	}
	for i := range task.Keys {
		wg.Go(func() {
			w := handoverWord{Key: handoverKey(i)}
			_, err := config.TokenSource(w.Key).TokenContext(t.Context())
			for ; errors.Is(err, b24oauth.ErrUnavailable); w.Failed++ { // a database may need longer for a thousand
				_, err = config.TokenSource(w.Key).TokenContext(t.Context())
			}
			w.At = time.Now().UnixNano()
			if err != nil {
				w.Failure = err.Error()
			}
			say(w)
		})
	}
	wg.Wait()
	if err := config.Flush(context.Background()); err != nil {
		say(handoverWord{Failure: err.Error()})
	}
	say(handoverWord{Loads: counted.loads.Load() - loads, Updates: counted.updates.Load() - updates})
}

// countedStore counts what is asked of a Store, whose Flush it does not hide: a
// process that ends before its lease is given back lets the others wait for it.
type countedStore struct {
	b24oauth.Store
	loads, updates atomic.Int64
}

func (c *countedStore) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	c.loads.Add(1)
	return c.Store.Load(ctx, key)
}

func (c *countedStore) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, key, fn)
}

func (c *countedStore) Flush(ctx context.Context) error {
	if f, ok := c.Store.(interface{ Flush(context.Context) error }); ok {
		return f.Flush(ctx)
	}
	return nil
}
