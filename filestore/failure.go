package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/b24go/b24oauth/internal/setup"
)

// lasting are the answers of a file system, beside a missing permission, that
// stay until somebody changes something: what is no directory, or is one where
// a file is to be, a loop of links, a file system that is read-only, that knows
// no names as long or cannot lock. A full disk or quota, too many open files and
// errors of the device or the network pass, or may.
var lasting = []error{
	syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.ELOOP, syscall.EROFS, syscall.ENAMETOOLONG, syscall.ENOSYS, syscall.ENOTSUP,
	errLinked,
}

// failed returns an error like fmt.Errorf, as one of the setup if its cause is.
func failed(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if stays(err) {
		return setup.Wrong(err)
	}
	return err
}

func stays(err error) bool {
	if inUse(err) { // Windows says that a permission is missing
		return false
	}
	for _, answer := range lasting {
		if errors.Is(err, answer) {
			return true
		}
	}
	return errors.Is(err, fs.ErrPermission)
}
