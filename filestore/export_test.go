package filestore

import (
	"context"
	"time"
)

// SetRename replaces what makes a written file the grant, and returns what
// undoes that.
func SetRename(rename func(from, to string) error) (undo func()) {
	was := renameFile
	renameFile = rename
	return func() { renameFile = was }
}

// Mark returns what a lock file ends with after a failed save.
func Mark(owner string, until time.Time) string { return mark{owner: owner, until: until}.String() }

// ReadBudget is how long a file that is being replaced is read again.
const ReadBudget = readBudget

// RetryReplaced is retry for an op that finds the file replaced each time that
// replaced says so.
func RetryReplaced(ctx context.Context, replaced func() bool) error {
	return retry(ctx, readBudget, func() error {
		if replaced() {
			return errReplaced
		}
		return nil
	})
}
