//go:build !windows

package filestore

import "os"

// syncDir makes a rename or a removal in dir last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// inUse is never so: a file can be renamed and removed while it is open.
func inUse(error) bool { return false }
