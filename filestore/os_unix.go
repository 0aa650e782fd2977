//go:build unix

package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownOnly makes opening fail that would follow a link, and not wait for the
// other end of a pipe.
const ownOnly = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// syncDir makes a rename or a removal in dir last through a power cut.
func syncDir(dir *os.File) error { return dir.Sync() }

// inUse is never so: a file can be renamed and removed while it is open.
func inUse(error) bool { return false }

// links returns how many names the file has.
func links(file *os.File) (uint64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(info.Sys().(*syscall.Stat_t).Nlink), nil
}

// exposed tells which directory others than that user and root can change, ""
// if none. Above the one of the grants that matters too: its owner can put
// another one in place of it, and so can whom the mode lets write, unless a
// sticky bit keeps them from it. In the directory itself no bit keeps them from
// making the file of a grant. Root works in anybody's directory, and what it
// makes there becomes the owner's.
func exposed(dir string, user int) string {
	for at, sticky := dir, fs.FileMode(0); ; at, sticky = filepath.Dir(at), fs.ModeSticky {
		info, err := os.Stat(at)
		if err != nil {
			return "" // what is gone, the first use says
		}
		if owner := int(info.Sys().(*syscall.Stat_t).Uid); user != 0 && owner != 0 && owner != user {
			return fmt.Sprintf("%s belongs to user %d, and the program runs as %d", at, owner, user)
		}
		if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&sticky == 0 {
			return fmt.Sprintf("%s has the mode %v", at, mode)
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// giveAway gives a file that root has made to the owner of the directory, whose
// service would be locked out by a single renewal under sudo. A root that may
// not give files away, as in many containers, keeps it.
func giveAway(file *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	of, err := os.Stat(dir)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	want, is := of.Sys().(*syscall.Stat_t), info.Sys().(*syscall.Stat_t)
	if want.Uid == 0 || want.Uid == is.Uid && want.Gid == is.Gid {
		return nil
	}
	err = file.Chown(int(want.Uid), int(want.Gid))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("it cannot be given to the owner of the directory: %w; run the program as that user", err)
	}
	return nil
}
