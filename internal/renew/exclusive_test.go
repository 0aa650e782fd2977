package renew

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// leased is a process whose Updates promise exclusivity until an end of their
// own.
type leased struct {
	*process
	wait, left time.Duration // how long fn is waited for, and what is left then
}

func (l leased) Update(ctx context.Context, fn func(context.Context, *grant) (*grant, error)) error {
	return l.process.Update(ctx, func(ctx context.Context, g *grant) (*grant, error) {
		time.Sleep(l.wait)
		ctx, cancel := context.WithTimeout(ctx, l.left)
		defer cancel()
		return fn(ctx, g)
	})
}

func TestNothingIsSpentUnlessThereIsTimeToSaveIt(t *testing.T) {
	for _, c := range []struct {
		name       string
		wait, left time.Duration
		want       Class // 0: a new pair
	}{
		{"enough", 0, 40 * time.Second, 0},
		{"too short", 0, 40*time.Second - 1, LeaseTooShort},
		{"too late", 10 * time.Second, 35 * time.Second, LeaseTooLate},
		{"late and enough", 5 * time.Second, 40 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := w.start("A")[0]
				s := New(Outside[*grant](leased{p, c.wait, c.left}), time.Minute, 15*time.Second)
				w.expire()
				_, f := s.Get(t.Context(), Why{})
				if f == nil && c.want != 0 || f != nil && f.Class != c.want {
					t.Errorf("failure %v; want class %d", f, c.want)
				}
				if spent := w.requests > 0; spent != (c.want == 0) {
					t.Errorf("%d requests with %v of exclusivity left", w.requests, c.left)
				}
			})
		})
	}
}
