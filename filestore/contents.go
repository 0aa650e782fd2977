package filestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/b24go/b24oauth"
)

const (
	// format is the only form that the files have had. Those of before also
	// have a nonce, which nothing needs any more.
	format = 1

	// tooLarge is more than any grant needs and little enough to be read
	// into memory unseen.
	tooLarge = 1 << 20
)

// contents is a grant file.
type contents struct {
	Format int             `json:"format"`
	Key    string          `json:"key"` // escaped, but in full: JSON cannot hold every string
	Grant  json.RawMessage `json:"grant"`

	key string // Key without its escapes
}

var (
	errForeign  = errors.New("it belongs to another key: was it copied or renamed?")
	errDamaged  = errors.New("it is empty, truncated or damaged")
	errTooLarge = errors.New("it is larger than 1 MiB")
)

// unusable is the error for a file that is there and is no grant of its key.
// It quotes nothing of the file, which may hold tokens.
type unusable struct {
	path string
	why  error
}

func (u *unusable) Error() string {
	if strings.Contains(u.why.Error(), "written by a later release") {
		return fmt.Sprintf("b24oauth/filestore: %s is not usable: %v; it was left as it is: update this program", u.path, u.why)
	}
	return fmt.Sprintf("b24oauth/filestore: %s is not usable: %v; it was left as it is: restore it from a backup, or move it to another directory and install the application again", u.path, u.why)
}

func (u *unusable) Unwrap() error { return u.why }

// Is makes the file one of the setup: it stays as it is until somebody acts.
func (u *unusable) Is(target error) bool { return target == b24oauth.ErrMisconfigured }

func decode(raw []byte) (*contents, error) {
	var c contents
	if err := json.Unmarshal(raw, &c); err != nil {
		// The decoder's own words can quote the file.
		return nil, errDamaged
	}
	if c.Format > format {
		return nil, fmt.Errorf("it has format %d, written by a later release; this one reads up to %d", c.Format, format)
	}
	key, ok := unescape(c.Key)
	if c.Format < 1 || !ok || key == "" {
		return nil, errDamaged
	}
	c.key = key
	return &c, nil
}

func encode(key string, g *b24oauth.Grant) ([]byte, error) {
	grant, err := g.MarshalBinary()
	if err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(contents{Format: format, Key: escape(key), Grant: grant}, "", "\t")
	if err != nil {
		return nil, err
	}
	if len(raw) >= tooLarge {
		return nil, fmt.Errorf("the grant takes %d bytes; a file of %d or more would not be read again", len(raw), tooLarge)
	}
	return append(raw, '\n'), nil
}
