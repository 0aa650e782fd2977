// Package lifetime reads how long an access token lives from what Bitrix24
// says of it, which is not always true.
package lifetime

import (
	"strconv"
	"time"
)

// Default is assumed of a token of which nothing believable is said, Max is
// the longest that is believed: a refresh token's own life.
const (
	Default = time.Hour
	Max     = 30 * 24 * time.Hour
)

// Of returns the lifetime of a token whose request was sent at that time. It
// prefers expiresIn, a number of seconds, to expires, a Unix time by the
// server's clock. Either may be anything.
func Of(expiresIn, expires string, sent time.Time) time.Duration {
	if s, err := strconv.ParseFloat(expiresIn, 64); err == nil && s <= Max.Seconds() {
		if d := time.Duration(s * float64(time.Second)); s > 0 && d > 0 {
			return d
		}
	}
	if unix, err := strconv.ParseInt(expires, 10, 64); err == nil {
		if d := time.Unix(unix, 0).Sub(sent); d > 0 && d <= Max {
			return d
		}
	}
	return Default
}
