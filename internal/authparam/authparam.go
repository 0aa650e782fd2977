// Package authparam puts the auth parameter, which carries a Bitrix24 access
// token, into a query, a form or a JSON body, so that it is the one that the
// portal finds there.
//
// The portal is written in PHP, and what it finds is what PHP makes of the
// bytes: of several fields called auth the last wins, %61uth is auth too,
// auth[]= turns it into an array, and fields past max_input_vars (1000 by
// default) are dropped without a word. A token that PHP does not see is a call
// refused for no reason that the caller could find; a caller's own, stale
// auth field that PHP sees is the same. Hence this package reads names as PHP
// does. Everything else is left as the caller wrote it, byte for byte.
//
// Bodies are streams: nothing is held of them but a name that is not complete
// yet. A body grows by a number of bytes that depends on the token alone, so
// that a length announced beforehand stays right.
package authparam

// A verdict says whether a field has a certain name.
type verdict int

const (
	no verdict = iota
	yes
	undecided // it depends on bytes that have not come yet
)

// hasName reports whether PHP reads the field at the start of s as name, or
// as name[…], which would replace name by an array. PHP decodes the name and
// cuts it at a NUL. whole says that nothing follows s.
//
// PHP reads name[ without a closing bracket as name_. That could be anywhere
// further on, so such a field is taken for name[…].
func hasName[T string | []byte](s T, name string, whole bool) verdict {
	end := no
	if !whole {
		end = undecided
	}
	i, bracket := 0, false
	for k := range len(name) {
		c, size := decode(s, i)
		switch {
		case size == 0:
			return end
		case name[k] == '_' && (c == '.' || c == ' ' || c == '['):
			bracket = bracket || c == '['
		case c != name[k]:
			return no
		}
		i += size
	}
	if i == len(s) {
		if whole {
			return yes
		}
		return undecided
	}
	if s[i] == '=' || s[i] == '&' {
		return yes
	}
	c, size := decode(s, i)
	if size == 0 {
		return end
	}
	if c == '[' && !bracket || c == 0 {
		return yes
	}
	return no
}

// space returns the size of the space that s has at i, encoded or not; 0 if
// there is none. PHP ignores spaces before a name.
func space[T string | []byte](s T, i int) int {
	if c, size := decode(s, i); c == ' ' {
		return size
	}
	return 0
}

// decode returns the byte that s has at i in PHP's reading, and the size of
// its encoded form; 0 if s ends before that does. A % that no two hexadecimal
// digits follow stands for itself.
func decode[T string | []byte](s T, i int) (c byte, size int) {
	if i >= len(s) {
		return 0, 0
	}
	if s[i] == '+' {
		return ' ', 1
	}
	if s[i] != '%' {
		return s[i], 1
	}
	for k := i + 1; k <= i+2; k++ {
		if k == len(s) {
			return 0, 0
		}
		d, ok := hexDigit(s[k])
		if !ok {
			return '%', 1
		}
		c = c<<4 | d
	}
	return c, 3
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
