package filestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/b24go/b24oauth/internal/keylock"
)

const (
	firstPoll = 50 * time.Millisecond
	lastPoll  = time.Second
)

// lock is the right to update one grant: exclusivity in this process, and the
// lock on a file among all. A holder that is killed loses both.
type lock struct {
	unlock func()
	flock  *flock.Flock
	file   *os.File // the lock file once more, for its mark
	taken  time.Time
	mark   mark // that was found; the zero value if there was none
	markAt int64
}

// takeLock waits until ctx ends for the lock on the file at path, which it
// makes if there is none, and for the end of another owner's mark.
func takeLock(ctx context.Context, path, owner string) (*lock, error) {
	for interval := firstPoll; ; interval = min(2*interval, lastPoll) {
		l, err := lockFile(ctx, path)
		if err != nil {
			return nil, err
		}
		left := l.mark.keepsOut(owner)
		if left <= 0 {
			return l, nil
		}
		// Given back meanwhile, since the mark's owner is to get it at once.
		l.release()
		if err := sleep(ctx, interval); err != nil {
			return nil, fmt.Errorf("b24oauth/filestore: %s is kept for an Update that could not save its grant, for %v more: %w", path, left.Round(time.Second), err)
		}
	}
}

// lockFile waits for the lock alone.
func lockFile(ctx context.Context, path string) (*lock, error) {
	unlock, err := inProcess.Lock(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("b24oauth/filestore: waiting for another Update of the grant: %w", err)
	}
	// Opened before it is locked, so that no link at its name is, and closed
	// only with the lock: where locks belong to the process and not to an open
	// file, closing any handle of the file ends them.
	file, err := openLock(path)
	if err != nil {
		unlock()
		return nil, failed("b24oauth/filestore: the grant cannot be locked, so it cannot be changed: %w; check what is at that name, its owner and its permissions", err)
	}
	l := &lock{unlock: unlock, flock: flock.New(path, flock.SetFlag(os.O_RDWR|ownOnly)), file: file}
	err = l.wait(ctx)
	l.taken = time.Now()
	if err == nil {
		err = l.named()
	}
	if err == nil {
		l.mark, l.markAt, err = readMark(l.file)
	}
	if err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// named returns an error if what was locked is no longer the file of that
// name, on which another Update can have the lock.
func (l *lock) named() error {
	locked, err := l.flock.Stat()
	if err != nil {
		return failed("b24oauth/filestore: the lock is not usable: %w", err)
	}
	is, err := l.file.Stat()
	if err == nil {
		err = regular(l.flock.Path(), l.file)
	}
	if err == nil && !os.SameFile(locked, is) {
		err = fmt.Errorf("%s: %w", l.flock.Path(), errReplaced)
	}
	if err != nil {
		return failed("b24oauth/filestore: the lock is not usable: %w; leave lock files where they are while a program runs", err)
	}
	return nil
}

// wait polls, because no system call waits for a file lock and a context.
func (l *lock) wait(ctx context.Context) error {
	for interval := firstPoll; ; interval = min(2*interval, lastPoll) {
		locked, err := l.flock.TryLock()
		if err != nil {
			return failed("b24oauth/filestore: the grant cannot be locked, so it cannot be changed: %w", err)
		}
		if locked {
			return nil
		}
		if err := sleep(ctx, interval); err != nil {
			return fmt.Errorf("b24oauth/filestore: waiting for the lock %s: %w", l.flock.Path(), err)
		}
	}
}

// sleep waits up to a quarter less than interval, so that those who wait do not
// poll in step, and returns ctx's error if that ends first.
func sleep(ctx context.Context, interval time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(interval - rand.N(interval/4+1)):
		return nil
	}
}

// release gives the lock back.
func (l *lock) release() {
	l.flock.Unlock()
	l.file.Close()
	l.unlock()
}

// inProcess locks by the path of the lock file, for all Stores of this process:
// its goroutines would poll the file against each other otherwise, and nobody
// would wake the next one when one ends.
var inProcess keylock.Locks
