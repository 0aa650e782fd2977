package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/filestore"
)

// A file system of its own, seen by one other process only, is filled and
// made read-only, which stops root too.
func TestFullDiskAndReadOnlyDirectoryLoseNothing(t *testing.T) {
	p := prepare(t, roleDisk, t.TempDir())
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := p.start(t); err != nil {
		t.Skipf("no namespaces for a process of ours: %v", err)
	}
	if said := p.line(t); said == "no mount" {
		t.Skip("no file systems for a process of ours")
	} else if said != "mounted" {
		t.Errorf("another process says %q", said)
	}
	p.wait(t)
}

func diskRole(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		fmt.Println("no mount")
		return nil
	}
	fmt.Println("mounted")
	s, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := s.Update(ctx, "key", addOne); err != nil {
		return err
	}

	ballast, err := fillDisk(filepath.Join(dir, "ballast"))
	if err != nil {
		return err
	}
	if err := refusedUnrenewed(s, syscall.ENOSPC); err != nil {
		return fmt.Errorf("on a full disk: %w", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	// Full only once the exchange has taken place: the room was taken before.
	err = s.Update(ctx, "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		_, err := fillDisk(ballast)
		return pair(g.UserID + 1), err
	})
	if g, loadErr := s.Load(ctx, "key"); err != nil || loadErr != nil || g.UserID != 2 {
		return fmt.Errorf("a disk that fills up while fn runs: Update = %v, then Load = %v, %v", err, g, loadErr)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	// A grant that needs more than the room that was taken. What was taken is
	// enough for others to be kept out.
	err = s.Update(ctx, "key", func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		_, err := fillDisk(ballast)
		g = pair(g.UserID + 1)
		g.Scope = strings.Repeat("s", 64<<10)
		return g, err
	})
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("a grant that there is no room for: Update = %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	other, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := other.Update(waiting, "key", addOne); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("another Store after the failed save: Update = %v", err)
	}
	if err := s.Update(ctx, "key", addOne); err != nil {
		return err
	}

	grant := filepath.Join(dir, "grant-key.json")
	if err := syscall.Mount(grant, grant, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := refusedUnrenewed(s, syscall.EBUSY); err != nil {
		return fmt.Errorf("a grant file that is a mount point: %w", err)
	}
	if err := syscall.Unmount(grant, 0); err != nil {
		return err
	}
	if err := s.Update(ctx, "key", addOne); err != nil {
		return err
	}

	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := refusedUnrenewed(s, syscall.EROFS); err != nil {
		return fmt.Errorf("in a read-only directory: %w", err)
	}
	if _, err := filestore.Open(dir); !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("Open of a read-only directory = %v", err)
	}
	return nil
}

// refusedUnrenewed checks that Update fails, before fn is called, and leaves
// what is stored.
func refusedUnrenewed(s *filestore.Store, want error) error {
	before, err := s.Load(context.Background(), "key")
	if err != nil {
		return err
	}
	called := false
	err = s.Update(context.Background(), "key", func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		called = true
		return pair(666), nil
	})
	after, loadErr := s.Load(context.Background(), "key")
	if called || !errors.Is(err, want) || loadErr != nil || after.UserID != before.UserID {
		return fmt.Errorf("fn called: %t, Update = %v, want %v; then Load = %v, %v", called, err, want, after, loadErr)
	}
	return nil
}

// fillDisk writes a file until there is no room left.
func fillDisk(path string) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return "", err
		}
	}
	return path, nil
}
