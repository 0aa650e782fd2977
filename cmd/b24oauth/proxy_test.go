package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/filestore"
)

// runningProxy is b24oauth proxy with a portal behind it.
type runningProxy struct {
	*b24test.Server
	URL, Token string
	Said       string
	end        func() (status int, said string)
}

// startProxy starts it as the flags say. What it prints first is in Said.
func startProxy(t *testing.T, flags ...string) *runningProxy {
	t.Helper()
	p := &runningProxy{Server: b24test.NewServer()}
	t.Cleanup(p.Close)
	t.Setenv("BITRIX24_CLIENT_ID", p.ClientID())
	t.Setenv("BITRIX24_CLIENT_SECRET", p.ClientSecret())
	t.Setenv("BITRIX24_TOKEN_URL", p.TokenURL())
	dir := t.TempDir()
	c := p.Config()
	var err error
	if c.Store, err = filestore.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), "example", p.Install()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	read, out := io.Pipe()
	var errOut bytes.Buffer
	status := make(chan int, 1)
	go func() {
		defer out.Close()
		status <- run(ctx, append([]string{"proxy", "example", "--listen", "127.0.0.1:0", "--json", "--store", "file:" + dir}, flags...), nil, out, &errOut)
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("the proxy ended with %d: %s", <-status, errOut.String())
	}
	if err := json.Unmarshal([]byte(line), p); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	p.Said = line
	p.end = func() (int, string) {
		stop()
		return <-status, errOut.String()
	}
	return p
}

// installed returns the path of a program, without which the test is left out, or
// fails if it is to run all.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: install it", name)
		}
		t.Skipf("there is no %s", name)
	}
	return path
}

func TestCurlCallsThroughTheProxy(t *testing.T) {
	curl := installed(t, "curl")
	p := startProxy(t)
	call := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"-sS", "--noproxy", "*", "-w", " %{http_code}", "-H", "Authorization: Bearer " + p.Token}, args...)...)
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v: %s", err, said)
		}
		return string(said)
	}
	for range 2 {
		for _, test := range []struct {
			args []string
			want string
		}{
			{[]string{p.URL + "crm.deal.list?start=50"}, `"start":"50"`},
			{[]string{"-d", "fields[TITLE]=A deal", p.URL + "crm.deal.add"}, `"TITLE":"A deal"`},
			{[]string{"-H", "Content-Type: application/json", "-d", `{"id":7}`, p.URL + "crm.deal.get.json"}, `"id":7`},
			{[]string{"-F", "fields[TITLE]=Of a form", p.URL + "crm.deal.add"}, `Of a form`},
		} {
			if got := call(test.args...); !strings.Contains(got, test.want) || !strings.HasSuffix(got, " 200") {
				t.Errorf("curl %q: %s", test.args, got)
			}
		}
		p.ExpireAccessTokens() // once: the second refusal within ten seconds is not followed by a renewal
	}
	if n := p.Refreshes(); n != 1 {
		t.Errorf("%d renewals", n)
	}
	if status, said := p.end(); status != 0 {
		t.Errorf("the proxy ended with %d: %s", status, said)
	}
}

const phpProgram = `<?php
function call(string $method, string $type, string $body): array {
	$answer = file_get_contents(getenv('PROXY') . $method, false, stream_context_create(['http' => [
		'method' => 'POST', 'ignore_errors' => true, 'content' => $body,
		'header' => ['Content-Type: ' . $type, 'Authorization: Bearer ' . getenv('TOKEN')],
	]]));
	return json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
}
$deal = call('crm.deal.add', 'application/x-www-form-urlencoded', http_build_query(['fields' => ['TITLE' => 'Of PHP']]));
echo $deal['result']['params']['fields']['TITLE'], "\n";
readline();
$deal = call('crm.deal.add', 'application/json', json_encode(['fields' => ['TITLE' => 'Of PHP, again']]));
echo $deal['result']['params']['fields']['TITLE'], "\n";
`

func TestAPHPProgramCallsThroughTheProxyAndMeetsNoExpiredToken(t *testing.T) {
	php := installed(t, "php")
	p := startProxy(t)
	file := t.TempDir() + "/program.php"
	if err := os.WriteFile(file, []byte(phpProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(php, file)
	cmd.Env = append(os.Environ(), "PROXY="+p.URL, "TOKEN="+p.Token)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "Of PHP\n" {
		t.Fatalf("PHP said %q, %v", line, err)
	}
	p.ExpireAccessTokens()
	io.WriteString(in, "\n")
	if line, err := lines.ReadString('\n'); line != "Of PHP, again\n" {
		t.Errorf("PHP said %q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := p.Refreshes(); n != 1 {
		t.Errorf("%d renewals", n)
	}
	if status, said := p.end(); status != 0 || strings.Contains(said, p.Token) {
		t.Errorf("the proxy ended with %d: %s", status, said)
	}
}

func TestATokenThatWasGivenIsNotPrinted(t *testing.T) {
	const given = "given-token-0123456789"
	file := t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte(given+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		env   string
		flags []string
	}{{given, nil}, {"", []string{"--token-file", file}}} {
		t.Setenv("B24OAUTH_PROXY_TOKEN", test.env)
		p := startProxy(t, test.flags...)
		for token, want := range map[string]int{given: http.StatusOK, "": http.StatusUnauthorized} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", p.URL+"profile", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("with the token %q it was answered %d, want %d", token, resp.StatusCode, want)
			}
		}
		if status, said := p.end(); status != 0 || strings.Contains(p.Said+said, given) {
			t.Errorf("the proxy ended with %d and said %s%s", status, p.Said, said)
		}
	}
}

func TestWhoHasToBringWhatIsSaid(t *testing.T) {
	for _, test := range []struct {
		token proxyToken
		want  string
	}{
		{proxyToken{value: "made-up"}, "Authorization: Bearer made-up"},
		{proxyToken{value: "made-up", given: "$(cat /run/secrets/proxy)"}, `"Authorization: Bearer $(cat /run/secrets/proxy)"`},
		{proxyToken{}, "no token is asked for"},
	} {
		var out bytes.Buffer
		p := &program{out: &out}
		if err := p.tellProxy("http://127.0.0.1:8025/rest/", "https://example.bitrix24.com/rest/", test.token); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), test.want) || test.token.given != "" && strings.Contains(out.String(), test.token.value) {
			t.Errorf("%+v: %s", test.token, out.String())
		}
	}
}

func TestAProxyThatCannotServeSaysSoBeforeItListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := b24test.NewServer()
	defer srv.Close()
	t.Setenv("BITRIX24_CLIENT_ID", srv.ClientID())
	t.Setenv("BITRIX24_CLIENT_SECRET", srv.ClientSecret())
	t.Setenv("BITRIX24_TOKEN_URL", srv.TokenURL())
	dir := t.TempDir()
	c := srv.Config()
	if c.Store, err = filestore.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), "example", srv.Install()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("B24OAUTH_STORE", "file:"+dir)
	for _, test := range []struct {
		name   string
		env    string
		args   []string
		status int
		want   string
	}{
		{"no grant", "", []string{"nothing"}, 4, "b24oauth login"},
		{"an address that is taken", "", []string{"example", "--listen", l.Addr().String()}, 1, "--listen 127.0.0.1:0"},
		{"an address of the network", "", []string{"example", "--listen", "0.0.0.0:0"}, 2, "--allow-remote"},
		{"the network without a token", "", []string{"example", "--listen", "0.0.0.0:0", "--allow-remote", "--no-auth"}, 2, "leave one of them out"},
		{"no address", "", []string{"example", "--listen", "8025"}, 2, "write an address and a port"},
		{"a token to guess", "secret", []string{"example"}, 2, "openssl rand -hex 32"},
		{"no file of the token", "", []string{"example", "--token-file", dir + "/nothing"}, 1, "nothing"},
		{"no key", "", nil, 2, "b24oauth proxy --help"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("B24OAUTH_PROXY_TOKEN", test.env)
			var out, errOut bytes.Buffer
			status := run(t.Context(), append([]string{"proxy"}, test.args...), nil, &out, &errOut)
			if status != test.status || !strings.Contains(errOut.String(), test.want) || out.Len() > 0 {
				t.Errorf("status %d, want %d: %s%s", status, test.status, out.String(), errOut.String())
			}
		})
	}
}
