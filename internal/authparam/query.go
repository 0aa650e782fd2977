package authparam

import (
	"net/url"
	"strings"
)

// Field returns auth=token, as a query or a form has it.
func Field(token string) string { return "auth=" + url.QueryEscape(token) }

// Query returns rawQuery with field, which [Field] has made, as its first
// field, where no max_input_vars cuts it off, and without any auth or
// access_token field of the caller's: PHP would let a later one win. What the
// caller wrote besides is kept byte for byte, order and escapes included:
// signatures may cover it.
func Query(rawQuery, field string) string {
	switch {
	case rawQuery == "":
		return field
	case !mayBearToken(rawQuery):
		return field + "&" + rawQuery
	}
	var b strings.Builder
	b.Grow(len(field) + len("&") + len(rawQuery))
	b.WriteString(field)
	b.WriteByte('&')
	alone := b.Len() - 1
	if writeWithout(&b, rawQuery, isAuth); b.Len() == alone+1 {
		return b.String()[:alone]
	}
	return b.String()
}

// StripQuery returns rawQuery without its auth and access_token fields, and
// else byte for byte.
func StripQuery(rawQuery string) string {
	if !mayBearToken(rawQuery) {
		return rawQuery
	}
	return without(rawQuery, isAuth)
}

// RemoveToken returns rawQuery without those auth and access_token fields
// whose decoded value is token, and else byte for byte. It is for queries
// that come back from a server, and takes malformed ones as they are.
func RemoveToken(rawQuery, token string) string {
	return without(rawQuery, func(field string) bool {
		return isAuth(field) && hasValue(field, token)
	})
}

// BearsOwnSecret reports whether PHP finds a credential in the query that is
// none of ours: the token of a signed file link, or the number and the secret
// of an incoming webhook, of which one alone is no credential.
func BearsOwnSecret(rawQuery string) bool {
	if !mayBearToken(rawQuery) {
		return false
	}
	var aplogin, ap, inAuth, apInAuth bool
	for field := range strings.SplitSeq(rawQuery, "&") {
		name := field[spaces(field):]
		if isNamed(name, "token") {
			return true
		}
		aplogin = aplogin || isNamed(name, "aplogin")
		ap = ap || isNamed(name, "ap")
		inAuth = inAuth || isNamed(name, "auth[aplogin]")
		apInAuth = apInAuth || isNamed(name, "auth[ap]")
	}
	return aplogin && ap || inAuth && apInAuth
}

// mayBearToken reports whether a field of the query begins as the name of a
// credential can. Most queries have none, and need not be read further.
func mayBearToken(rawQuery string) bool {
	for i := 0; i < len(rawQuery); i++ {
		switch rawQuery[i] {
		case 'a', 't', '%', '+', ' ':
			return true
		}
		next := strings.IndexByte(rawQuery[i:], '&')
		if next < 0 {
			return false
		}
		i += next
	}
	return false
}

// without returns rawQuery without the fields to drop. It allocates only if
// there are any.
func without(rawQuery string, drop func(field string) bool) string {
	for field := range strings.SplitSeq(rawQuery, "&") {
		if drop(field) {
			var b strings.Builder
			b.Grow(len(rawQuery))
			writeWithout(&b, rawQuery, drop)
			return b.String()
		}
	}
	return rawQuery
}

// writeWithout writes the fields that are not to drop. Empty fields, which
// stand for leading, trailing and repeated separators, count as fields.
func writeWithout(b *strings.Builder, rawQuery string, drop func(field string) bool) {
	first := true
	for field := range strings.SplitSeq(rawQuery, "&") {
		if drop(field) {
			continue
		}
		if !first {
			b.WriteByte('&')
		}
		first = false
		b.WriteString(field)
	}
}

// isAuth reports whether the portal reads a token from the field.
func isAuth(field string) bool {
	name := field[spaces(field):]
	return hasName(name, "auth", true) == yes || hasName(name, "access_token", true) == yes
}

// isNamed reports whether PHP reads the field as name, and as no array within
// that. What follows a closing bracket is not looked at by PHP.
func isNamed(field, name string) bool {
	i := 0
	for k := range len(name) {
		c, size := decode(field, i)
		if size == 0 || c != name[k] {
			return false
		}
		i += size
	}
	if i == len(field) || field[i] == '=' {
		return true
	}
	c, size := decode(field, i)
	if size == 0 { // a % at the very end
		c = '%'
	}
	return c == 0 || name[len(name)-1] == ']' && c != '['
}

// spaces returns the size of the spaces that a field starts with.
func spaces(field string) (i int) {
	for size := space(field, i); size > 0; size = space(field, i) {
		i += size
	}
	return i
}

// hasValue reports whether the field's decoded value is value.
func hasValue(field, value string) bool {
	_, s, _ := strings.Cut(field, "=")
	i := 0
	for k := range len(value) {
		c, size := decode(s, i)
		if size == 0 && i < len(s) {
			c, size = s[i], 1
		}
		if size == 0 || c != value[k] {
			return false
		}
		i += size
	}
	return i == len(s)
}
