package filestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/b24go/b24oauth/filestore"
)

const (
	getFlags   = 0x80086601 // FS_IOC_GETFLAGS
	setFlags   = 0x40086602 // FS_IOC_SETFLAGS
	immutable  = 0x10
	appendOnly = 0x20
)

// setFlag does what chattr does, and undoes it at the test's end.
func setFlag(t *testing.T, path string, flag uint) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var flags uint
	ioctl := func(request uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(&flags))); errno != 0 {
			t.Skipf("no flags here: %v", errno)
		}
	}
	ioctl(getFlags)
	flags |= flag
	ioctl(setFlags)
	t.Cleanup(func() {
		flags &^= flag
		ioctl(setFlags)
		file.Close()
	})
}

func TestFileThatCannotBeReplacedIsFoundBeforeTheExchange(t *testing.T) {
	for name, flag := range map[string]uint{"immutable": immutable, "append only": appendOnly} {
		for _, of := range []string{"grant-key.json", "."} {
			t.Run(name+" "+of, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				store(t, s, 1)
				setFlag(t, filepath.Join(dir, of), flag)
				if err := refusedUnrenewed(s, syscall.EPERM); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Somebody without root's rights, in directories that are prepared by root.
func TestDirectoryThatForbidsTheRenameIsFoundBeforeTheExchange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files to others")
	}
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"writable": 0o666, "readable": 0o644} {
		sticky := filepath.Join(dir, name)
		store(t, open(t, sticky), 1)
		grant := filepath.Join(sticky, "grant-key.json")
		for _, err := range []error{
			os.Chown(grant, 12345, 12345), os.Chmod(grant, mode),
			os.Chown(sticky, 23456, 23456), os.Chmod(sticky, 0o777|os.ModeSticky),
		} {
			if err != nil {
				t.Skip(err)
			}
		}
	}
	p := prepare(t, roleOther, dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
	}
	if err := p.start(t); err != nil {
		t.Skipf("no namespaces for a process of ours: %v", err)
	}
	p.wait(t)
}

func otherRole(dir string) error {
	for _, name := range []string{"writable", "readable"} {
		s, err := filestore.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := refusedUnrenewed(s, syscall.EPERM); err != nil {
			return fmt.Errorf("a grant file of somebody else's that is %s, in a sticky directory: %w", name, err)
		}
	}
	lost := filepath.Join(dir, "lost")
	s, err := filestore.Open(lost)
	if err != nil {
		return err
	}
	if err := s.Update(context.Background(), "key", addOne); err != nil {
		return err
	}
	if err := os.Chmod(lost, 0o500); err != nil {
		return err
	}
	if err := refusedUnrenewed(s, syscall.EACCES); err != nil {
		return fmt.Errorf("a directory that lost its write: %w", err)
	}
	return nil
}
