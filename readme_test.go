package b24oauth_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// imports are what a snippet may use, by the name that it has there.
var imports = map[string]string{
	"b24oauth": "github.com/b24go/b24oauth", "b24test": "github.com/b24go/b24oauth/b24test", "filestore": "github.com/b24go/b24oauth/filestore",
	"install": "github.com/b24go/b24oauth/install", "limit": "github.com/b24go/b24oauth/limit", "retry": "github.com/b24go/b24oauth/retry",
	"storetest": "github.com/b24go/b24oauth/storetest", "oauth2": "golang.org/x/oauth2",
	"context": "context", "errors": "errors", "http": "net/http", "url": "net/url", "testing": "testing",
}

var (
	goBlock  = regexp.MustCompile("(?s)```go\n(.*?)```")
	declares = regexp.MustCompile(`(?m)^([a-z]\w*(?:, [a-z]\w*)*) :=`)
)

// fileOf makes a file of a snippet, which stands in a function of a program's or is one.
func fileOf(snippet string) string {
	body := snippet
	if !strings.HasPrefix(snippet, "func ") {
		body = "func snippet(ctx context.Context, config *b24oauth.Config, conf *oauth2.Config, token *oauth2.Token, store b24oauth.Store, t *testing.T) {\n{\n" + snippet
		var declared []string
		for _, names := range declares.FindAllStringSubmatch(snippet, -1) {
			declared = append(declared, strings.Split(names[1], ", ")...)
		}
		slices.Sort(declared)
		for _, name := range slices.Compact(declared) {
			body += "_ = " + name + "\n"
		}
		body += "}\n}\n"
	}
	code := regexp.MustCompile(`//.*|"[^"\n]*"`).ReplaceAllString(body, "")
	file := "package snippets\n\nimport (\n"
	for name, path := range imports {
		if regexp.MustCompile(`\b` + name + `\.`).MatchString(code) {
			file += fmt.Sprintf("\t%q\n", path)
		}
	}
	return file + ")\n\n" + body
}

// Whoever copies a snippet out of a document has a program that compiles.
func TestSnippetsOfTheDocumentsCompile(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	var packages []string
	for _, path := range []string{"README.md", "README.ru.md", "docs/migration.md"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		blocks := goBlock.FindAllStringSubmatch(string(data), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no snippet", path)
		}
		for _, block := range blocks {
			n := len(packages)
			file := filepath.Join(t.TempDir(), "snippet.go")
			if err := os.WriteFile(file, []byte(fileOf(block[1])), 0o600); err != nil {
				t.Fatal(err)
			}
			folder := fmt.Sprintf("internal/snippets/s%d", n)
			overlay.Replace[filepath.Join(here, folder, "snippet.go")] = file
			packages = append(packages, "./"+folder)
		}
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("go", append([]string{"build", "-overlay", file}, packages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
