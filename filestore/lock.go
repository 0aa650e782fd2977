package filestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/b24go/b24oauth/internal/turns"
)

const (
	firstPoll = 50 * time.Millisecond
	lastPoll  = time.Second

	// markAt is where the mark begins. Windows lets nobody write the first
	// byte, on which the lock stands there.
	markAt = 1
)

// lock is the right to update one grant: a turn in this process and the lock
// on a file among all. The file also carries the mark, which is set while fn
// runs or what it returned is not saved. A holder that is killed cannot
// empty it.
type lock struct {
	leave     func()
	flock     *flock.Flock
	file      *os.File // the lock file once more, to write the mark
	inherited bool     // the mark was there when the lock was taken
	settled   bool     // release may empty the mark
}

// takeLock waits for the lock on the file at path, which it makes if there is
// none, until ctx ends.
func takeLock(ctx context.Context, path string) (*lock, error) {
	leave, err := inProcess.Take(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: waiting for another Update of the grant: %w", err)
	}
	l := &lock{leave: leave, flock: flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR))}
	if err := l.wait(ctx); err != nil {
		leave()
		return nil, err
	}
	// Closed only with the lock: where locks belong to the process and not
	// to an open file, closing any handle of the file ends them.
	l.file, err = os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		var info os.FileInfo
		if info, err = l.file.Stat(); err == nil {
			l.inherited = info.Size() > markAt
			return l, nil
		}
	}
	l.release()
	return nil, fmt.Errorf("b24oauth/filestore: the lock is not usable: %w; check the owner and the permissions of the file", err)
}

// wait polls, because no system call waits for a file lock and a context.
func (l *lock) wait(ctx context.Context) error {
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("b24oauth/filestore: waiting for the lock %s: %w", l.flock.Path(), err)
		}
		locked, err := l.flock.TryLock()
		if err != nil {
			return fmt.Errorf("b24oauth/filestore: the grant cannot be locked, so it cannot be changed: %w", err)
		}
		if locked {
			return nil
		}
		// Up to a quarter less, so that those who wait do not look in step.
		pause := pause - rand.N(pause/4)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// mark says that an Update has begun. From here on release empties the mark
// unless the caller takes settled back. The mark is not synced: a power cut
// leaves nobody behind who could still save what the exchange brought.
func (l *lock) mark() error {
	l.settled = true
	if l.inherited {
		return nil
	}
	text := fmt.Sprintf("\nan Update began at %s in process %d and has not ended\n", time.Now().UTC().Format(time.RFC3339), os.Getpid())
	if _, err := l.file.WriteAt([]byte(text), markAt); err != nil {
		return fmt.Errorf("b24oauth/filestore: the lock cannot be marked: %w", err)
	}
	return nil
}

// release gives the lock back.
func (l *lock) release() {
	if l.settled {
		l.file.Truncate(markAt)
	}
	l.flock.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.leave()
}

// inProcess makes the goroutines of this process wait for each other without
// looking at the file, whatever Store they came through. By path of the lock
// file.
var inProcess turns.Turns
