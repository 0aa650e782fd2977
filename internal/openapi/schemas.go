package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// place is where a schema describes something.
type place int

const (
	inAnswers  place = iota // what a portal says
	inRequests              // what a program says
)

// schema repairs a schema and all within it.
func (r *repair) schema(value any, where place) {
	s, ok := value.(node)
	if !ok {
		return
	}
	standardType(s)
	if _, has := s["items"]; s["type"] == "array" && !has {
		if where == inRequests {
			s["items"] = make(node)
		} else {
			// PHP's arrays are lists and maps alike, and one that does not say of what
			// it is comes as either. Nothing less than anything can be read.
			delete(s, "type")
		}
	}
	if s["type"] == "object" && isBare(s) {
		s["additionalProperties"] = true // or what is in it would be dropped, as nobody's
	}
	for _, name := range []string{"items", "additionalProperties", "not"} {
		r.schema(s[name], where)
	}
	for _, name := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := s[name].([]any)
		for _, element := range list {
			r.schema(element, where)
		}
	}
	properties, _ := s["properties"].(node)
	for _, property := range properties {
		r.schema(property, where)
	}
}

// types are those that OpenAPI has, and those of PHP's with what they are in it.
var types = map[string]node{
	"array": {}, "boolean": {}, "integer": {}, "null": {}, "number": {}, "object": {}, "string": {},
	"bool": {"type": "boolean"}, "int": {"type": "integer", "format": "int64"},
	"float": {"type": "number", "format": "double"}, "double": {"type": "number", "format": "double"},
}

// standardType has a schema of a type of PHP's be of one that generators know, or of
// none: then it is anything.
func standardType(s node) {
	name, ok := s["type"].(string)
	if !ok {
		return
	}
	as, known := types[name]
	if !known {
		delete(s, "type")
	}
	maps.Copy(s, as)
}

// isBare reports whether nothing says what an object has in it.
func isBare(s node) bool {
	for _, name := range []string{"additionalProperties", "allOf", "anyOf", "oneOf"} {
		if _, ok := s[name]; ok {
			return false
		}
	}
	properties, _ := s["properties"].(node)
	return len(properties) == 0
}

const schemaRef = "#/components/schemas/"

// names gives schemas names that every language can have: a portal names them as its
// PHP classes are, with dots or backslashes.
func (r *repair) names() {
	renamed, taken := make(map[string]string), make(map[string]bool)
	for name := range r.schemas {
		if isName(name) {
			taken[goName(name)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.schemas)) {
		if isName(name) {
			continue
		}
		as := unused(camel(name), taken)
		renamed[name], taken[goName(as)] = as, true
		r.schemas[as] = r.schemas[name]
		delete(r.schemas, name)
	}
	if len(renamed) > 0 {
		refer(r.doc, renamed)
	}
}

// refer has every reference to a renamed schema follow it.
func refer(value any, renamed map[string]string) {
	switch v := value.(type) {
	case node:
		if ref, ok := v["$ref"].(string); ok {
			v["$ref"] = follow(ref, renamed)
		}
		if d, ok := v["discriminator"].(node); ok {
			mapping, _ := d["mapping"].(node)
			for name, to := range mapping {
				if ref, ok := to.(string); ok {
					mapping[name] = follow(ref, renamed)
				}
			}
		}
		for _, child := range v {
			refer(child, renamed)
		}
	case []any:
		for _, child := range v {
			refer(child, renamed)
		}
	}
}

// unescape is how a name stands in a reference: JSON pointer's escapes.
var unescape = strings.NewReplacer("~1", "/", "~0", "~", "%5C", `\`, "%5c", `\`, "%20", " ")

func follow(ref string, renamed map[string]string) string {
	name, local := strings.CutPrefix(ref, schemaRef)
	as, ok := renamed[unescape.Replace(name)]
	switch {
	case !ok:
		return ref
	case local:
		return schemaRef + as
	}
	return as // a discriminator may name a schema alone
}

// isName reports whether every generator takes a name as it is.
func isName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(c rune) bool { return !isNameRune(c) }) < 0
}

func isNameRune(c rune) bool {
	return c == '_' || c < unicode.MaxASCII && (unicode.IsLetter(c) || unicode.IsDigit(c))
}

// camel makes one word of several: Bitrix.Tasks.Task is BitrixTasksTask.
func camel(name string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return !isNameRune(c) }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	if b.Len() == 0 {
		return "Schema"
	}
	return b.String()
}

// goName is what names have in common that a generator makes the same one of.
func goName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// unused returns the name, with a number if it is taken.
func unused(name string, taken map[string]bool) string {
	as := name
	for n := 2; taken[goName(as)]; n++ {
		as = fmt.Sprintf("%s%d", name, n)
	}
	return as
}
