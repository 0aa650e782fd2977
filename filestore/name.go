package filestore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	prefix      = "grant-" // keeps a key such as CON or .. from being a name with a meaning
	grantSuffix = ".json"
	lockSuffix  = ".lock" // beside the grant's, in the place of grantSuffix
	newSuffix   = ".new"
	trySuffix   = ".try"

	// longest is the longest name of a key. With prefix and suffix it is
	// below 143 bytes, which is what an encrypting file system leaves of 255.
	longest = 128
	cut     = longest - 1 - 2*sha256.Size
)

// fileName returns the name of the grant of key, without its suffix.
//
// Lower-case letters, digits, dot, dash and underscore stand for themselves
// and any other byte is %xx, so no name differs from another by case alone,
// or by the normal form of its Unicode. A name that would be too long ends in
// ~ and a hash instead; the file then tells the key.
func fileName(key string) string {
	name := escape(key)
	if len(name) > longest {
		sum := sha256.Sum256([]byte(key))
		name = name[:cut] + "~" + hex.EncodeToString(sum[:])
	}
	return prefix + name
}

func escape(key string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range []byte(key) {
		if literal(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func literal(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

// unescape undoes escape. It accepts a little more than escape returns, such
// as %2E for a dot.
func unescape(name string) (key string, ok bool) {
	var b strings.Builder
	for len(name) > 0 {
		if name[0] != '%' {
			b.WriteByte(name[0])
			name = name[1:]
			continue
		}
		if len(name) < 3 {
			return "", false
		}
		c, err := hex.DecodeString(name[1:3])
		if err != nil {
			return "", false
		}
		b.Write(c)
		name = name[3:]
	}
	return b.String(), true
}

// nameKind is what a file's name tells.
type nameKind int

const (
	notGrant    nameKind = iota // a file of someone else, a lock, a leftover
	misnamed                    // like a grant's, but of no key
	namedByKey                  // a grant's; the name is the key
	namedByHash                 // a grant's; the file tells the key
)

// parseFileName is the inverse of fileName for the name of any file in the
// directory. Only a name of the kind namedByKey yields the key.
func parseFileName(name string) (key string, kind nameKind) {
	escaped, hasPrefix := strings.CutPrefix(name, prefix)
	escaped, hasSuffix := strings.CutSuffix(escaped, grantSuffix)
	if !hasPrefix || !hasSuffix {
		return "", notGrant
	}
	if strings.Contains(escaped, "~") {
		return "", namedByHash
	}
	key, ok := unescape(escaped)
	if !ok || key == "" || fileName(key) != prefix+escaped {
		return "", misnamed
	}
	return key, namedByKey
}
