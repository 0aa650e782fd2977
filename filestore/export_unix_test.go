//go:build unix

package filestore

// Exposed tells which directory others than that user and root can change.
var Exposed = exposed
