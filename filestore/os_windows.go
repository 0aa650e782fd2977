package filestore

import (
	"errors"
	"syscall"
)

const errorSharingViolation syscall.Errno = 32

// syncDir does nothing: Windows cannot sync a directory. NTFS keeps its
// entries in a journal.
func syncDir(string) error { return nil }

// inUse tells whether the file is open elsewhere, in a reader or a virus
// scanner, so that it cannot be replaced, or is just being replaced, so that
// it cannot be read.
func inUse(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}
