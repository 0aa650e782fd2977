package renew

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// An installation that is delivered twice, or a Store set back to a backup,
// brings an old pair over a new one, and its refresh token is spent. A clock
// cannot tell old from new, since clocks differ between machines, nor can a
// counter of writes, since a backup sets it back too, nor can memory, since a
// process restarts. So each grant carries where it descends from.

// Lineage orders grants. A refresh keeps root and list and adds one to the
// generation.
type Lineage struct {
	Root       uint64   // identifies the authorization; 0: this grant is its first
	Generation uint64   // refreshes since the root
	Former     []uint64 // roots of the authorizations it replaced, oldest first; never changed in place
}

// maxFormer is how many replaced authorizations a grant remembers. An
// installation older than that would be taken for a new one.
const maxFormer = 32

// OlderThan reports whether a grant of lineage l was superseded by one of
// lineage m. Neither of two unrelated grants is older.
func (l Lineage) OlderThan(m Lineage) bool {
	if l.Root == m.Root {
		return l.Generation < m.Generation
	}
	return slices.Contains(m.Former, l.Root)
}

// next returns the lineage of a grant that a refresh brings.
func (l Lineage) next() Lineage {
	l.Generation++
	return l
}

// over returns the lineage of a grant that replaces one of lineage m: m's
// authorization, and those that it replaced, are older from then on.
func (l Lineage) over(m Lineage) Lineage {
	former := slices.Clone(l.Former)
	for _, root := range append(slices.Clone(m.Former), m.Root) {
		if root != l.Root && !slices.Contains(former, root) {
			former = append(former, root)
		}
	}
	l.Former = former[max(0, len(former)-maxFormer):]
	return l
}

// randomRoot returns the root of a deletion, which no token has.
func randomRoot() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:]) | 1
}

// Fingerprint stands for a token where the token itself must not be kept or
// told: the first 64 bits of its SHA-256.
func Fingerprint(token string) uint64 {
	sum := sha256.Sum256([]byte(token))
	return binary.BigEndian.Uint64(sum[:])
}
