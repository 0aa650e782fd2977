package filestore

import (
	"errors"
	"os"
	"syscall"
)

// ownOnly is nothing here: openOwn looks at the name before and after.
const ownOnly = 0

const errorSharingViolation syscall.Errno = 32

// syncDir does nothing: Windows cannot sync a directory. NTFS keeps its
// entries in a journal.
func syncDir(*os.File) error { return nil }

// inUse tells whether the file is open elsewhere, in a reader or a virus
// scanner, so that it cannot be replaced, or is just being replaced, so that
// it cannot be read.
func inUse(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}

// links returns how many names the file has.
func links(file *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	err := syscall.GetFileInformationByHandle(syscall.Handle(file.Fd()), &info)
	return uint64(info.NumberOfLinks), err
}

// exposed finds nothing: rights are not in the mode here.
func exposed(string, int) string { return "" }

// giveAway does nothing: a file inherits its rights from the directory.
func giveAway(*os.File, string) error { return nil }
