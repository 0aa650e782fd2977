package filestore

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestNamesAreReadable(t *testing.T) {
	for key, want := range map[string]string{
		"example.bitrix24.com":             "grant-example.bitrix24.com",
		"a223c6b3710f85df22e9377d6c4f7553": "grant-a223c6b3710f85df22e9377d6c4f7553",
		"Example/1":                        "grant-%45xample%2f1",
		"..":                               "grant-..",
		"con":                              "grant-con",
		"a%2fb":                            "grant-a%252fb",
		"\x00":                             "grant-%00",
		strings.Repeat("a", longest):       "grant-" + strings.Repeat("a", longest),
		strings.Repeat("a", longest+1):     "grant-" + strings.Repeat("a", 63) + "~c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae",
	} {
		if got := fileName(key); got != want {
			t.Errorf("fileName(%q) = %s; want %s", key, got, want)
		}
	}
}

func TestOnlyOurNamesAreGrants(t *testing.T) {
	for name, want := range map[string]nameKind{
		"grant-a.json":   namedByKey,
		"grant-%41.json": namedByKey,
		"grant-" + strings.Repeat("a", 63) + "~0.json": namedByHash,
		"grant-A.json":      misnamed, // that is not how A is escaped
		"grant-%4.json":     misnamed,
		"grant-%zz.json":    misnamed,
		"grant-%2E.json":    misnamed,
		"grant- .json":      misnamed,
		"grant-.json":       misnamed,
		"grant-a.lock":      notGrant,
		"grant-a.new":       notGrant,
		"grant-a.json.orig": notGrant,
		"a.json":            notGrant,
		"open-1.new":        notGrant,
	} {
		if _, got := parseFileName(name); got != want {
			t.Errorf("parseFileName(%q) is of the kind %d; want %d", name, got, want)
		}
	}
}

func FuzzNamesNeverMeet(f *testing.F) {
	long := strings.Repeat("k", 1024)
	for _, pair := range [][2]string{
		{"a", "A"}, {"..", "../.."}, {"a/b", `a\b`}, {"%41", "A"}, {"\u00e9", "e\u0301"}, {"\u0131", "i"}, {"\u017f", "s"}, {"\u212a", "k"},
		{long, long + "k"}, {long, strings.ToUpper(long)}, {long, "\xff" + long}, {"nul", "NUL."}, {"a\x00", "a"}, {"\xff", "\ufffd"}, {"~", "%7e"},
		{fileName(long), long}, {strings.TrimPrefix(fileName(long), prefix), long},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, key := range []string{a, b} {
			name := fileName(key) + grantSuffix
			if !filepath.IsLocal(name) || filepath.Base(name) != name || len(name) > 143 {
				t.Errorf("%q is kept in %q; want a short name in the directory", key, name)
			}
			if name != strings.ToLower(name) || name != strings.ToValidUTF8(name, "") || strings.Trim(name, ". ") != name {
				t.Errorf("%q is kept in %q; want a name that every file system takes as it is", key, name)
			}
			if back, ok := unescape(escape(key)); !ok || back != key {
				t.Errorf("%q comes back as %q, %t", key, back, ok)
			}
			switch back, kind := parseFileName(name); {
			case key == "" || kind == namedByHash && len(escape(key)) > longest:
			case kind != namedByKey || back != key:
				t.Errorf("%q, kept in %q, is parsed as %q, %d", key, name, back, kind)
			}
		}
		if a != b && strings.EqualFold(fileName(a), fileName(b)) {
			t.Errorf("%q and %q are both kept in %q", a, b, fileName(a))
		}
	})
}
