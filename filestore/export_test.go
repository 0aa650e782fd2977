package filestore

import "time"

// SetRename replaces what makes a written file the grant, and returns what
// undoes that.
func SetRename(rename func(from, to string) error) (undo func()) {
	was := renameFile
	renameFile = rename
	return func() { renameFile = was }
}

// Mark returns what a lock file ends with after a failed save.
func Mark(owner string, until time.Time) string { return mark{owner: owner, until: until}.String() }
