package filestore

import (
	"fmt"
	"os"
)

// directory is a directory that is not taken for empty while another one is
// under its path: a mount point without its volume has no grant in it, and
// whoever found none there would install the application anew over those on
// the volume.
type directory struct {
	path string // absolute, without symbolic links
	info os.FileInfo
}

func openDirectory(path string) (directory, error) {
	file, err := os.Open(path)
	if err != nil {
		return directory{}, err
	}
	defer file.Close()
	// Asked of the open file: on Windows what os.Stat returns looks for the
	// file's identity only when it is compared.
	info, err := file.Stat()
	return directory{path: path, info: info}, err
}

// same returns an error if the path leads to no directory or to another one.
func (d directory) same() error {
	now, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("b24oauth/filestore: the directory cannot be reached: %w; mount its volume, or bring it back", err)
	}
	if !os.SameFile(d.info, now) {
		return fmt.Errorf("b24oauth/filestore: %s is not the directory that was opened: its volume seems to be unmounted, or it was replaced; mount the volume, or bring the directory back; if it was replaced on purpose, start the program again", d.path)
	}
	return nil
}
