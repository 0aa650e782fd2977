// Package setup marks the errors of our Stores that stay until somebody changes
// something, a right or a table, as [b24oauth.Store] asks.
package setup

import "github.com/b24go/b24oauth"

// Wrong returns err as one that wraps [b24oauth.ErrMisconfigured]. Its words
// stay as they are.
func Wrong(err error) error { return wrong{err} }

type wrong struct{ error }

func (w wrong) Unwrap() error { return w.error }

func (wrong) Is(target error) bool { return target == b24oauth.ErrMisconfigured }
