package b24oauth

import "errors"

// A database driver's error may quote the values of its statement, and those
// of a save are tokens. What a Store says goes into errors, logs and events
// without them.

// quietError is a Store's error whose text was redacted. It still answers
// errors.Is, which tells nothing but yes or no.
type quietError struct {
	text string
	is   func(target error) bool // a field with the error itself would be printed by %#v
}

func (e *quietError) Error() string        { return e.text }
func (e *quietError) Is(target error) bool { return e.is(target) }

// withoutTokens returns an error of the Store without the tokens of the
// grants that it may be about.
func withoutTokens(err error, grants ...*Grant) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, g := range grants {
		if g == nil {
			continue
		}
		for _, f := range g.secrets() {
			if quotes(text, *f.value) {
				text = redactText(text, *f.value)
			}
		}
	}
	if text == err.Error() {
		return err
	}
	return &quietError{text, func(target error) bool { return errors.Is(err, target) }}
}

// ownGrants returns the grants whose tokens an error can quote that comes
// while the slot is held: the current one, and the one before it.
func (s *TokenSource) ownGrants() (current, published *Grant) {
	if cur := s.descent.cur; cur != nil {
		current = cur.grant
	}
	return current, s.shownGrant()
}

// shownGrant returns the grant that callers use, nil if there is none.
func (s *TokenSource) shownGrant() *Grant {
	if sn := s.snap.Load(); sn != nil {
		return sn.grant
	}
	return nil
}
