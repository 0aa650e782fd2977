package renew

import (
	"context"
	"fmt"
	"time"
)

// Outside is what a Source needs of the world: where its grant is kept, who
// renews it, and what logs it. A Source never looks into a G; the zero G means
// that there is none. Its methods may be called concurrently.
type Outside[G comparable] interface {
	// Load returns what is stored, the zero G if nothing is.
	Load(ctx context.Context) (G, error)

	// Update calls fn at most once with what is stored, while no other Update
	// of the grant runs anywhere, and stores what fn returns, unless that is
	// the zero G. The context of fn says until when that is promised.
	Update(ctx context.Context, fn func(ctx context.Context, stored G) (G, error)) error

	// Renew returns the grant that follows g, or the zero G if the token of g
	// is still good and was not refused. It calls may before it spends the
	// refresh token of g, and does not spend it if may returns a failure. When
	// ctx ends, it is to return; if it does not, it is waited for no longer, and
	// what it returns in the end is saved by a job of its own.
	Renew(ctx context.Context, g G, refused bool, may func() *Failure) (next G, attempts int, _ *Failure)

	// View tells what the Source has to know of a grant.
	View(g G) View

	// With returns a copy of g with these marks in place of its own. If it is
	// marked as deleted, the copy has no tokens.
	With(g G, m Marks) G

	// StoreFailure says what an error of Load or Update comes down to, without
	// the secrets of the grants that it may quote.
	StoreFailure(err error, known ...G) *Failure

	// Report logs what happened. It runs while the Source is free for others.
	Report(e Event)
}

// View is what a Source knows of a grant.
type View struct {
	Access, Refresh string    // the tokens; without a refresh token the access token is used until it is refused
	Issued, Expiry  time.Time // of the access token
	Home            string    // the portal's host
	Foreign         error     // why the grant is not this program's to use, only to replace or delete; nil if it is
	Marks
}

// Marks are what this package writes into a grant.
type Marks struct {
	Lineage Lineage
	Refused Refusal
	Deleted time.Time // not zero: the grant is a tombstone
}

// Refusal is the server's verdict that a refresh token is dead. The zero
// value: there is none. Without a Code it was lifted then.
type Refusal struct {
	Code string
	At   time.Time
}

// FullLineage returns the lineage of the grant. One that was stored before there
// was any is the first of its authorization.
func (v *View) FullLineage() Lineage {
	l := v.Lineage
	if l.Root == 0 && v.Deleted.IsZero() {
		l.Root = v.Fence()
	}
	return l
}

// Fence identifies the pair of tokens.
func (v *View) Fence() uint64 {
	if v.Refresh != "" {
		return Fingerprint(v.Refresh)
	}
	return Fingerprint(v.Access)
}

// A Class says what a failure means for the next attempt.
type Class int

const (
	Passing        Class = iota + 1 // the server could not be had: it is asked again after a growing pause
	StoreFailed                     // the Store could not be had
	Conflict                        // the Store held something else when the change was to be written
	Repairable                      // permanent until somebody repairs it, without a new grant
	Refused                         // the server's verdict: this refresh token is dead
	Missing                         // no grant is stored
	Foreign                         // what is stored is another program's: Err is its View's
	Outdated                        // the grant to be saved is older than the one there is
	NoRefreshToken                  // the token is refused or used up, and nothing can renew it
	RefusedAgain                    // the portal refuses, or redirects, too soon after a token was renewed for that
	StillAmbiguous                  // a new token did not help against a refusal that gives no reason
	LeaseTooShort                   // exclusivity does not last as long as an exchange and its saving may
	LeaseTooLate                    // exclusivity came when too little was left of it
	Churning                        // the stored grant changes faster than it can be used
	Late                            // the server has not answered in time; the exchange goes on
	Unstoppable                     // the exchange was given up, and goes on all the same
	Overrun                         // the job has gone on for too long, and goes on
	GaveUp                          // the caller's context ended while it waited; Err is a *ctxend.Error
	Panicked                        // code that the job called has panicked: Err is a *PanicError
	Vanished                        // code that the job called has ended its goroutine
)

// A Failure says why a job did not bring what it was to bring. It is shared
// by all who waited, and not changed once it is returned.
type Failure struct {
	Class      Class
	Code       string        // the server's error code
	At         time.Time     // Refused: when the server was asked
	RetryAfter time.Duration // Passing: how long the server wants to be left alone; RefusedAgain: how long no token is renewed for that
	Err        error         // the cause in the outside's words; nil if the Class says it all
}

// Error is for tests; callers get the outside's words.
func (f *Failure) Error() string {
	return fmt.Sprintf("renew: class %d %s: %v", f.Class, f.Code, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// Declined reports whether nothing was tried, since a renewal would not
// answer what the portal says.
func (f *Failure) Declined() bool {
	return f.Class == NoRefreshToken || f.Class == RefusedAgain || f.Class == StillAmbiguous
}

// ofStore reports whether it is the Store that has to get well.
func (f *Failure) ofStore() bool {
	switch f.Class {
	case StoreFailed, Conflict, LeaseTooLate, Churning, Overrun, Panicked, Vanished:
		return true
	}
	return false
}

// repeats reports whether f says what g said already, so that it is not
// reported again.
func (f *Failure) repeats(g *Failure) bool {
	switch {
	case f == g || g == nil:
		return f == g
	case f.Class == Passing || f.Class == StoreFailed:
		return false // each is an attempt of its own
	case f.Class == Refused && g.Class == Refused:
		return f.Code == g.Code && f.At.Equal(g.At) // the same verdict, read from the Store this time
	}
	return f.Class == g.Class && f.Code == g.Code && f.At.Equal(g.At) && fmt.Sprint(f.Err) == fmt.Sprint(g.Err)
}

// An EventKind says what happened to a grant.
type EventKind int

const (
	Renewed    EventKind = iota + 1 // a new pair was fetched
	Adopted                         // a newer grant was found in the Store
	Moved                           // the portal has another address
	NotRenewed                      // a job failed
	NotSaved                        // the Store did not take a new pair
	Broken                          // code that the job called has panicked
)

// An Event is reported by a job after its end.
type Event struct {
	Kind     EventKind
	Access   string        // the access token in question; a secret
	Home     string        // Moved: the new address
	Duration time.Duration // of the job
	Attempts int           // requests that it sent
	Refusals int           // Renewed: requests that the portal refused since the one before
	Failure  *Failure      // why it failed
}

// PanicError is a panic of the outside's code, as the cause of a Failure. Its
// value may hold anything, secrets too.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("a panic with a value of type %T", e.Value) }
