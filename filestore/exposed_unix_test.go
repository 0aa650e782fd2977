//go:build unix

package filestore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

func TestDirectoryThatOthersMayWriteToIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		name         string
		above, mode  os.FileMode
		warns, other bool // other: the directory belongs to somebody else, which root alone can arrange
	}{
		{"its owner's", 0o755, 0o700, false, false},
		{"readable by all", 0o755, 0o755, false, false},
		{"writable by its group", 0o755, 0o770, true, false},
		{"writable by all", 0o755, 0o777, true, false},
		{"writable by all, sticky", 0o755, 0o777 | os.ModeSticky, true, false},
		{"below one that is writable by its group", 0o775, 0o700, true, false},
		{"below one that is writable by all", 0o777, 0o700, true, false},
		{"below one like /tmp", 0o777 | os.ModeSticky, 0o700, false, false},
		{"somebody else's, for root", 0o755, 0o700, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			above := filepath.Join(privateDir(t), "above")
			dir := filepath.Join(above, "between", "grants")
			open(t, dir)
			for at, mode := range map[string]os.FileMode{dir: c.mode, above: c.above} {
				if err := os.Chmod(at, mode); err != nil {
					t.Fatal(err)
				}
			}
			if c.other && os.Chown(dir, 65534, 65534) != nil {
				t.Skip("only root gives a directory away")
			}
			var out bytes.Buffer
			s := open(t, dir)
			for range 2 { // Configs that share it
				config := &b24oauth.Config{ClientID: "id", ClientSecret: "secret", Store: s, Logger: slog.New(slog.NewTextHandler(&out, nil))}
				for range 2 {
					if _, err := config.TokenSource("key").Token(); err == nil {
						t.Fatal("there is a token")
					}
				}
			}
			warned := strings.Count(out.String(), "level=WARN msg=\"b24oauth/filestore: others can write")
			if warned != map[bool]int{true: 1}[c.warns] {
				t.Errorf("%d warnings in\n%swant one: %t", warned, out.String(), c.warns)
			}
			if c.warns && (!strings.Contains(out.String(), dir) || !strings.Contains(out.String(), "has the mode")) {
				t.Errorf("the warning does not say which directory, and why:\n%s", out.String())
			}
		})
	}
}

func TestDirectoryOfSomebodyElseIsExposed(t *testing.T) {
	me := os.Geteuid()
	above := privateDir(t)
	dir := filepath.Join(above, "grants")
	open(t, dir)
	owner := me
	if me == 0 {
		owner = 1001
		if err := os.Chown(above, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	for user, want := range map[int]string{owner: "", 0: "", owner + 1: fmt.Sprintf("belongs to user %d, and the program runs as %d", owner, owner+1)} {
		if got := filestore.Exposed(dir, user); (got == "") != (want == "") || !strings.HasSuffix(got, want) {
			t.Errorf("for user %d: %q; want %q", user, got, want)
		}
	}
}

// privateDir returns a new directory that nobody else can change.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if why := filestore.Exposed(dir, os.Geteuid()); why != "" {
		t.Skip("there is no place of its own for a test: " + why)
	}
	return dir
}
