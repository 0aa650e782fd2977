package filestore

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// lease is for how long after its beginning an Update that could not
	// save keeps the others out.
	lease = 45 * time.Second

	// markAt is where a mark begins at the earliest. Windows lets nobody
	// write the first byte, on which the lock stands there.
	markAt = 1

	markOwner = "\nkept for "
	markUntil = " until "
	markEnd   = ": its new grant could not be saved\n"
	markTime  = "2006-01-02T15:04:05.000000000Z"
)

// markSize is the length of every mark.
var markSize = len(mark{owner: rand.Text()}.String())

// mark is what a lock file ends with after a save that failed. Its owner has
// the only copy of the new pair, and whoever came with the old one would find
// it refused and ask for a new installation.
type mark struct {
	owner string    // of the Store that may go on
	until time.Time // by the clock of this machine
}

func (m mark) String() string {
	return markOwner + m.owner + markUntil + m.until.UTC().Format(markTime) + markEnd
}

// parseMark reads what String returns. Anything else is no mark.
func parseMark(text string) (m mark, ok bool) {
	text, hasOwner := strings.CutPrefix(text, markOwner)
	text, hasEnd := strings.CutSuffix(text, markEnd)
	owner, until, hasUntil := strings.Cut(text, markUntil)
	end, err := time.Parse(markTime, until)
	return mark{owner: owner, until: end}, hasOwner && hasEnd && hasUntil && err == nil
}

// keepsOut returns for how long another Store than the mark's has to wait. A
// mark of further ahead than any is written is not believed: the clock was
// set back.
func (m mark) keepsOut(owner string) time.Duration {
	left := time.Until(m.until)
	if m.owner == owner || left > lease {
		return 0
	}
	return left
}

// readMark returns the mark at the end of the file, the zero value if there
// is none, and where it begins, or the next one would. What else is in the
// file is not ours and stays.
func readMark(file *os.File) (m mark, at int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return mark{}, 0, fmt.Errorf("b24oauth/filestore: the lock is not usable: %w", err)
	}
	end := max(info.Size(), markAt)
	at = end - int64(markSize)
	if at < markAt {
		return mark{}, end, nil
	}
	tail := make([]byte, markSize)
	if _, err := file.ReadAt(tail, at); err != nil && err != io.EOF {
		return mark{}, 0, fmt.Errorf("b24oauth/filestore: the lock is not usable: %w", err)
	}
	if m, ok := parseMark(string(tail)); ok {
		return m, at, nil
	}
	return mark{}, end, nil
}

// keepLease makes others wait for the rest of the lease. The mark is not synced: a
// power cut leaves nobody behind who could still save the pair.
func (l *lock) keepLease(owner string) error {
	m := mark{owner: owner, until: l.taken.Add(lease)}
	if _, err := l.file.WriteAt([]byte(m.String()), l.markAt); err != nil {
		return fmt.Errorf("b24oauth/filestore: others are not kept from the grant that could not be saved: %w", err)
	}
	return nil
}

// settle takes back the mark that was found, since nobody has a pair to save
// any more. If that fails, others wait until it is over, and no grant is at
// stake: the Update has succeeded and says so.
func (l *lock) settle() {
	if l.mark != (mark{}) {
		l.file.Truncate(l.markAt)
	}
}
