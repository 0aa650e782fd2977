package filestore_test

import (
	"os"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/storetest"
)

func TestStorePassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() b24oauth.Store {
		dir := unsyncedDir(t)
		return func() b24oauth.Store { return open(t, dir) }
	})
}

// unsyncedDir returns a directory in memory, where there is one: the suite
// stores more than 10,000 grants, and on a disk that others write to too each
// sync takes milliseconds.
func unsyncedDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "filestore-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, dir string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
