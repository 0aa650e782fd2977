package b24oauth_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	deferredFlush = regexp.MustCompile(`(?m)^((?://)?\t*)defer (?:func\(\) \{[^}]*|.*)\.Flush\(`)
	endsProgram   = regexp.MustCompile(`\b(log\.Fatal|os\.Exit)\w*\(`)
)

// TestNothingToCopySkipsItsFlush: log.Fatal and os.Exit skip what is deferred,
// and a program that was copied from a file, a doc comment or Markdown would
// lose the grant that is being renewed.
func TestNothingToCopySkipsItsFlush(t *testing.T) {
	var found []string
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".go" && ext != ".md" {
			return err
		}
		source, err := os.ReadFile(path)
		for _, at := range deferredFlush.FindAllSubmatchIndex(source, -1) {
			found = append(found, path)
			// The function is what stands around the defer, indented as deep at least.
			indent := string(source[at[2]:at[3]])
			outside := func(line string) bool {
				return line != "" && line != "//" && (!strings.HasPrefix(line, indent) || strings.HasPrefix(line, "```"))
			}
			before, after := strings.Split(string(source[:at[0]]), "\n"), strings.Split(string(source[at[0]:]), "\n")
			slices.Reverse(before)
			for _, lines := range [][]string{before, after} {
				for _, line := range lines {
					if outside(line) {
						break
					}
					if endsProgram.MatchString(line) {
						t.Errorf("%s: skips a deferred Flush: %s", path, line)
					}
				}
			}
		}
		return err
	})
	for _, path := range []string{"README.md", "doc.go", "example_test.go"} {
		if err != nil || !slices.Contains(found, path) {
			t.Errorf("error %v, and no deferred Flush in %s", err, path)
		}
	}
}
