// Package reserved says which keys of a Store are not for grants: what an
// application has received and not proven yet is kept beside them, and must
// neither be used nor listed as one.
package reserved

import (
	"fmt"
	"strings"
)

const prefix = "b24oauth pending\n"

// Pending returns the key of the slot of that number for what an application has
// received.
func Pending(clientID string, slot int) string {
	return fmt.Sprintf("%s%s\n%d", prefix, clientID, slot)
}

// Probe returns the key under which an application tries whether the Store takes
// anything.
func Probe(clientID string) string { return Pending(clientID, -1) }

// Is reports whether a key is none for a grant.
func Is(key string) bool { return strings.HasPrefix(key, prefix) }
