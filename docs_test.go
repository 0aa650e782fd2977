package b24oauth_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
)

// An operator at night looks for the very word that he has before him.
func TestTroubleshootingKnowsEveryErrorCodeAndEvent(t *testing.T) {
	data, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ToLower(string(data))
	file, err := parser.ParseFile(gotoken.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name := spec.Names[0].Name
		if strings.HasPrefix(name, "Err") {
			words = append(words, name)
		}
		if name == "tokenErrorCodes" {
			for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
				words = append(words, strings.Trim(element.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	if len(words) < 15 {
		t.Fatalf("errors.go has %q alone", words)
	}
	for kind := b24oauth.EventRenewed; !strings.HasPrefix(kind.String(), "EventKind"); kind++ {
		words = append(words, kind.String())
	}
	for _, word := range words {
		if !strings.Contains(text, "`"+strings.ToLower(word)+"`") {
			t.Errorf("docs/troubleshooting.md does not know %s", word)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// anchor is the address of a heading within its page.
func anchor(heading string) string {
	heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range link.FindAllStringSubmatch(string(data), -1) {
			target, fragment, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue // not of this project
			}
			seen++
			page := path
			if target != "" {
				page = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, found[1])
				continue
			}
			if fragment == "" {
				continue
			}
			there, err := os.ReadFile(page)
			if err != nil {
				return err
			}
			has := false
			for _, h := range heading.FindAllStringSubmatch(string(there), -1) {
				has = has || anchor(h[1]) == fragment
			}
			if !has {
				t.Errorf("%s: %s has no heading #%s", path, page, fragment)
			}
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d links were looked at, %v", seen, err)
	}
}

// READMEs in two languages say the same: headings of the same levels in the same order,
// rows of tables, items of lists, and the very same code.
func TestTheREADMEsAreInStep(t *testing.T) {
	outline := func(path string) (levels, code []string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		inCode := false
		for line := range strings.Lines(string(data)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "```"):
				inCode = !inCode
				code = append(code, line)
			case inCode:
				code = append(code, line)
			case strings.HasPrefix(line, "#"), strings.HasPrefix(line, "* "):
				mark, _, _ := strings.Cut(line, " ")
				levels = append(levels, mark)
			case strings.HasPrefix(line, "|"):
				levels = append(levels, "|")
			}
		}
		return levels, code
	}
	levels, code := outline("README.md")
	russianLevels, russianCode := outline("README.ru.md")
	if fmt.Sprint(levels) != fmt.Sprint(russianLevels) {
		t.Errorf("README.md has the headings %v, README.ru.md %v", levels, russianLevels)
	}
	for i := range max(len(code), len(russianCode)) {
		if i >= len(code) || i >= len(russianCode) || code[i] != russianCode[i] {
			t.Fatalf("the code differs from line %d on: %q", i+1, append(code[min(i, len(code)):][:min(1, len(code)-i)], russianCode[min(i, len(russianCode)):]...))
		}
	}
}
