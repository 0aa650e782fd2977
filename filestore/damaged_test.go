package filestore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
)

const (
	tellTale = "tell-tale-token"
	longKey  = 200 // so long that the file is named by a hash
)

// replacing returns a function that replaces what old matches.
func replacing(old, with string) func([]byte) []byte {
	return func(whole []byte) []byte { return regexp.MustCompile(old).ReplaceAll(whole, []byte(with)) }
}

var damages = []struct {
	name string
	to   func(whole []byte) []byte
	says string
}{
	{"empty", func([]byte) []byte { return nil }, "empty, truncated or damaged"},
	{"zeros, as after a power cut", func(w []byte) []byte { return make([]byte, len(w)) }, "empty, truncated or damaged"},
	{"white space", func([]byte) []byte { return []byte(" \n") }, "empty, truncated or damaged"},
	{"truncated", func(w []byte) []byte { return w[:len(w)*2/3] }, "empty, truncated or damaged"},
	{"truncated by the last brace", func(w []byte) []byte { return bytes.TrimRight(w, "}\n") }, "empty, truncated or damaged"},
	{"longer than it was", func(w []byte) []byte { return append(w, tellTale...) }, "empty, truncated or damaged"},
	{"twice", func(w []byte) []byte { return append(w, w...) }, "empty, truncated or damaged"},
	{"no JSON", func(w []byte) []byte { return []byte("token = " + tellTale) }, "empty, truncated or damaged"},
	{"a JSON string", func([]byte) []byte { return []byte(`"` + tellTale + `"`) }, "empty, truncated or damaged"},
	{"null", func([]byte) []byte { return []byte("null") }, "empty, truncated or damaged"},
	{"other JSON", func([]byte) []byte { return []byte(`{"access_token":"` + tellTale + `"}`) }, "empty, truncated or damaged"},
	{"without a format", replacing(`"format": 1,`, ``), "empty, truncated or damaged"},
	{"of a later format", replacing(`"format": 1,`, `"format": 2,`), "later release"},
	{"without a key", replacing(`"key": "[^"]*"`, `"key": ""`), "empty, truncated or damaged"},
	{"with a broken key", replacing(`"key": "[^"]*"`, `"key": "%z`+tellTale+`"`), "empty, truncated or damaged"},
	{"of another key", replacing(`"key": "[^"]*"`, `"key": "`+tellTale+`"`), "belongs to another key"},
	{"without a grant", replacing(`(?s)"grant": \{.*\}\n\}`, `"grant": null}`), "is not usable"},
	{"with an empty grant", replacing(`(?s)"grant": \{.*\}\n\}`, `"grant": {}}`), "is not usable"},
	{"with a grant of another form", replacing(`(?s)"grant": \{.*\}\n\}`, `"grant": "`+tellTale+`"}`), "is not usable"},
	{"larger than 1 MiB", func(w []byte) []byte { return append(w, strings.Repeat(" ", 1<<20)...) }, "larger than 1 MiB"},
}

func TestDamagedFileIsAnErrorAndIsLeftAsItIs(t *testing.T) {
	for _, d := range damages {
		for _, key := range []string{"key", strings.Repeat("k", longKey)} {
			t.Run(d.name+"/"+key[:3], func(t *testing.T) {
				path, whole := grantFile(t, key)
				damaged := d.to(bytes.Clone(whole))
				if bytes.Equal(damaged, whole) {
					t.Fatalf("nothing is damaged in %s", whole)
				}
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				wantUnusable(t, path, key, d.says)
				if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
					t.Errorf("the file has changed (%v)", err)
				}
			})
		}
	}
}

// grantFile stores a grant under key in a new directory and returns its file.
func grantFile(t *testing.T, key string) (path string, whole []byte) {
	t.Helper()
	dir := t.TempDir()
	err := open(t, dir).Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return &b24oauth.Grant{AccessToken: tellTale, RefreshToken: tellTale}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("grant files: %v, %v; want one", files, err)
	}
	whole, err = os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return files[0], whole
}

// wantUnusable checks that the file at path is refused, with an error that
// names it and not its tokens.
func wantUnusable(t *testing.T, path, key, says string) {
	t.Helper()
	s := open(t, filepath.Dir(path))
	_, loadErr := s.Load(t.Context(), key)
	updateErr := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called")
		return pair(1), nil
	})
	resolved, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for method, err := range map[string]error{"Load": loadErr, "Update": updateErr} {
		if err == nil {
			t.Errorf("%s succeeds", method)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "b24oauth/filestore: ") || !strings.Contains(text, filepath.Join(resolved, filepath.Base(path))) || !strings.Contains(text, says) {
			t.Errorf("%s = %q; want the name of the file and %q", method, text, says)
		}
		if strings.Contains(text, tellTale) {
			t.Errorf("%s tells what is in the file: %q", method, text)
		}
	}
}

func TestCopiedFileIsForeign(t *testing.T) {
	for _, key := range []string{"a", strings.Repeat("a", longKey)} {
		path, whole := grantFile(t, key)
		to := filepath.Join(filepath.Dir(path), "grant-b.json")
		if err := os.WriteFile(to, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		wantUnusable(t, to, "b", "belongs to another key")
		if _, err := open(t, filepath.Dir(path)).Load(t.Context(), key); err != nil {
			t.Errorf("the original: %v", err)
		}
	}
}

func TestDirectoryOrLinkInPlaceOfAFileIsAnError(t *testing.T) {
	path, whole := grantFile(t, "key")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	wantUnusable(t, path, "key", "not a regular file")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "grant-key.json")
	if err := os.WriteFile(elsewhere, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Skip(err)
	}
	wantUnusable(t, path, "key", "not a regular file")
}

func TestUnreadableFileIsAnError(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("permissions stop nobody here")
	}
	path, _ := grantFile(t, "key")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	wantUnusable(t, path, "key", "permission")
}

func TestKeysNamesFilesThatTellNoKey(t *testing.T) {
	path, whole := grantFile(t, strings.Repeat("k", longKey))
	dir := filepath.Dir(path)
	for name, content := range map[string][]byte{
		"grant-Key.json":                  whole,
		"grant-" + "kkk" + "~00.json":     whole,
		"grant-" + "kk" + "~00.json":      nil,
		"grant-key.json":                  nil, // the name tells it; Load says what is wrong
		"grant-key.json~":                 whole,
		"grant-" + "key" + ".json.backup": whole,
		"README":                          nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var keys, errs []string
	for key, err := range open(t, dir).Keys(t.Context()) {
		if err != nil {
			errs = append(errs, err.Error())
		} else {
			keys = append(keys, key)
		}
	}
	if len(keys) != 2 || keys[0] != "key" || keys[1] != strings.Repeat("k", longKey) {
		t.Errorf("keys: %q", keys)
	}
	for i, name := range []string{"grant-Key.json", "grant-kkk~00.json", "grant-kk~00.json"} {
		if len(errs) != 3 || !strings.Contains(errs[i], name) || strings.Contains(errs[i], tellTale) {
			t.Errorf("errors: %q; want one that names %s", errs, name)
		}
	}
}
