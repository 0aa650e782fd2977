package filestore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth/filestore"
)

// On a disk that is busy, reading can take longer than files are read again for.
func TestAFileThatIsReplacedDuringASlowReadIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := filestore.RetryReplaced(t.Context(), func() bool {
			tries++
			time.Sleep(2 * filestore.ReadBudget)
			return tries == 1
		})
		if err != nil || tries != 2 {
			t.Errorf("%v after %d tries", err, tries)
		}
	})
}

func TestAFileThatIsReplacedAllTheTimeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := filestore.RetryReplaced(t.Context(), func() bool { return true })
		if took := time.Since(begun); err == nil || took < filestore.ReadBudget || took > 2*filestore.ReadBudget {
			t.Errorf("%v after %v", err, took)
		}
	})
}
