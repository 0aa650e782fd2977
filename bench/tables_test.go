package bench

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"golang.org/x/oauth2"
	"k8s.io/client-go/transport"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/sealedstore"
)

var tables = flag.Bool("tables", false, "measure at length, and write the tables of README.md anew")

// comparison is a row of a table: what something takes, as a multiple of what the first
// one in it takes.
type comparison struct {
	title string
	calls []contestant
}

type contestant struct {
	name string
	call func()
}

// TestTables compares in one process, in turns: of each contestant the median turn
// counts. Without -tables it is short, and shows that all of them work.
func TestTables(t *testing.T) {
	turns, share := 3, 2
	if *tables {
		turns, share = 200, 50
	}
	var out strings.Builder
	fmt.Fprintf(&out, "Measured on %s, in one run; each figure is a ratio of medians.\n\n| what | = 1 | beside it |\n|---|---|---|\n", machine())
	for _, c := range comparisons(t) {
		took := make([][]float64, len(c.calls))
		for range turns {
			for i, contestant := range c.calls {
				begun := time.Now()
				for range share {
					contestant.call()
				}
				took[i] = append(took[i], float64(time.Since(begun)))
			}
		}
		base := median(took[0])
		var beside []string
		for i, contestant := range c.calls[1:] {
			ratio := median(took[i+1]) / base
			if math.IsNaN(ratio) || ratio <= 0 {
				t.Errorf("%s, %s: the ratio is %v", c.title, contestant.name, ratio)
			}
			beside = append(beside, fmt.Sprintf("%s %.2f", contestant.name, ratio))
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", c.title, c.calls[0].name, strings.Join(beside, ", "))
	}
	t.Log("\n" + out.String())
	if *tables && !t.Failed() {
		writeTables(t, out.String())
	}
}

// writeTables puts the text between the marks of README.md.
func writeTables(t *testing.T, text string) {
	t.Helper()
	const begin, end = "<!-- tables -->\n", "<!-- /tables -->\n"
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("README.md has no place for the tables")
	}
	if err := os.WriteFile("README.md", []byte(before+begin+text+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine names what was measured on.
func machine() string {
	model := "an unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores of %s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version())
}

func comparisons(t *testing.T) []comparison {
	return []comparison{perRequest(t), perToken(t), stores(t), coldStart(t), duringRenewal(t)}
}

// perRequest is a GET over a base that does nothing.
func perRequest(t *testing.T) comparison {
	source := fresh(t)
	static := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "token", Expiry: time.Now().Add(lifetime)}, nil)
	through := func(rt http.RoundTripper, url string) func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	const url = "https://example.bitrix24.com/rest/crm.deal.list"
	return comparison{"a GET, over a base that does nothing", []contestant{
		{"oauth2.Transport", through(&oauth2.Transport{Source: static, Base: stub}, url)},
		{"client-go", through(transport.TokenSourceWrapTransport(static)(stub), url)},
		{"ghinstallation", through(githubInstallation(t), "https://api.github.example/repos")},
		{ours, through(&b24oauth.Transport{Source: source, Base: stub}, url)},
	}}
}

// githubInstallation is a transport of a GitHub application, which has fetched its token.
func githubInstallation(t *testing.T) http.RoundTripper {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	base := tripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost {
			return stub.RoundTrip(r)
		}
		body := fmt.Sprintf(`{"token":"token","expires_at":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
		return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})
	tr := ghinstallation.NewFromAppsTransport(ghinstallation.NewAppsTransportFromPrivateKey(base, 1, key), 2)
	if _, err := tr.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// perToken is a call for a token that is good.
func perToken(t *testing.T) comparison {
	source := fresh(t)
	c := comparison{title: "a token that is good"}
	for _, l := range others {
		if l.name == "azcore" {
			continue // its cache cannot be called without a request
		}
		call := l.over((&issuer{life: lifetime}).fetch, 0)
		c.calls = append(c.calls, contestant{l.name, func() {
			if err := call(t.Context()); err != nil {
				t.Fatal(err)
			}
		}})
	}
	c.calls = append(c.calls, contestant{ours, func() {
		if _, err := source.Token(); err != nil {
			t.Fatal(err)
		}
	}})
	return c
}

// stores is an Update that saves a grant, as a renewal does.
func stores(t *testing.T) comparison {
	g := grant(t)
	data, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files, err := filestore.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	updating := func(s b24oauth.Store) func() {
		return func() {
			err := s.Update(t.Context(), "portal", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return comparison{"a grant is saved", []contestant{
		{"a file is written, synced and renamed", func() {
			f, err := os.Create(filepath.Join(dir, "new"))
			if err == nil {
				_, err = io.Copy(f, bytes.NewReader(data))
			}
			if err == nil {
				err = f.Sync()
			}
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				err = os.Rename(f.Name(), filepath.Join(dir, "grant"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"filestore", updating(files)},
		{"MemoryStore", updating(new(b24oauth.MemoryStore))},
		{"MemoryStore, sealed", updating(sealedstore.New(new(b24oauth.MemoryStore), aead(t)))},
	}}
}

// coldStart is the way of a process that has just started to its first token.
func coldStart(t *testing.T) comparison {
	dir := t.TempDir()
	open := func() *b24oauth.Config {
		s, err := filestore.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return &b24oauth.Config{ClientID: "local.example", ClientSecret: "made-up", Store: s}
	}
	if err := open().Save(t.Context(), "portal", grant(t)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	return comparison{"a process that starts has its first token", []contestant{
		{"a file is read and decoded", func() {
			data, err := os.ReadFile(files[0])
			var v map[string]any
			if err == nil {
				err = json.Unmarshal(data, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{ours + " with filestore", func() {
			if _, err := open().TokenSource("portal").Token(); err != nil {
				t.Fatal(err)
			}
		}},
	}}
}

// duringRenewal is a call whose token works while its renewal is under way.
func duringRenewal(t *testing.T) comparison {
	srv := b24test.NewServer()
	t.Cleanup(srv.Close)
	release := srv.HoldTokens()
	t.Cleanup(release)
	calling := func(left time.Duration) func() {
		config := srv.Config()
		config.Store = new(b24oauth.MemoryStore)
		g := srv.Install()
		g.Expiry = time.Now().Add(left)
		g.Issued = g.Expiry.Add(-time.Hour)
		if err := config.Save(t.Context(), "portal", g); err != nil {
			t.Fatal(err)
		}
		source := config.TokenSource("portal")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := source.TokenContext(ctx); err != nil { // begins the renewal, if there is to be one
			t.Fatal(err)
		}
		client := &http.Client{Transport: &b24oauth.Transport{Source: source, Base: stub}}
		return func() {
			resp, err := client.Get(srv.Endpoint() + "profile")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	return comparison{"a call during a renewal that hangs", []contestant{
		{"without a renewal", calling(time.Hour)},
		{"with one", calling(50 * time.Second)},
	}}
}

// fresh returns a source whose token is good for an hour.
func fresh(t *testing.T) *b24oauth.TokenSource {
	config := &b24oauth.Config{ClientID: "local.example", ClientSecret: "made-up", Store: new(b24oauth.MemoryStore)}
	if err := config.Save(t.Context(), "portal", grant(t)); err != nil {
		t.Fatal(err)
	}
	source := config.TokenSource("portal")
	if _, err := source.Token(); err != nil {
		t.Fatal(err)
	}
	return source
}

func grant(t *testing.T) *b24oauth.Grant {
	srv := b24test.NewMemoryServer()
	defer srv.Close()
	g := srv.Install()
	g.ClientID, g.ServerEndpoint = "", ""
	g.ClientEndpoint = "https://example.bitrix24.com/rest/"
	return g
}

func aead(t *testing.T) cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}
