package b24test

import (
	"strconv"
	"strings"
)

// maxNesting is how deep brackets in a name may go before PHP drops the field
// (max_input_nesting_level).
const maxNesting = 64

// phpArray is PHP's array while fields are registered in it: what is written
// last under a key counts, a[] takes the next number, and one whose keys are
// 0, 1, 2, … in this order is a list.
type phpArray struct {
	keys   []string
	values map[string]any // string or *phpArray
	next   int            // key of the next a[]
}

func newPHPArray() *phpArray {
	return &phpArray{values: make(map[string]any)}
}

// register enters a field under its decoded name, as PHP makes a variable of
// it: leading spaces do not count, the name ends at a zero byte, spaces and
// dots before the first bracket become underscores, and brackets lead into
// arrays. A field without a name is ignored.
func (a *phpArray) register(name, value string) {
	name = strings.TrimLeft(name, " ")
	name, _, _ = strings.Cut(name, "\x00")
	base, path := splitName(name)
	if base == "" || len(path) > maxNesting {
		return
	}
	key := base
	for _, index := range path {
		a = a.child(key)
		key = index
		if key == "" {
			key = strconv.Itoa(a.next)
		}
	}
	a.set(key, value)
}

// splitName takes a name like a[b][] apart into a and the indexes b and "".
// Whatever follows the brackets is dropped. A first bracket that is never
// closed is no bracket.
func splitName(name string) (base string, path []string) {
	base, rest, bracket := strings.Cut(name, "[")
	plain := strings.NewReplacer(" ", "_", ".", "_", "[", "_")
	base = plain.Replace(base)
	for bracket {
		index, after, closed := strings.Cut(rest, "]")
		if !closed {
			if path == nil && base != "" {
				return base + "_" + plain.Replace(rest), nil
			}
			return base, path
		}
		if strings.TrimSpace(index) == "" && len(index) <= 1 {
			index = ""
		}
		path = append(path, index)
		rest, bracket = strings.CutPrefix(after, "[")
	}
	return base, path
}

// child is the array under a key; anything else there is replaced.
func (a *phpArray) child(key string) *phpArray {
	if c, ok := a.values[key].(*phpArray); ok {
		return c
	}
	c := newPHPArray()
	a.set(key, c)
	return c
}

func (a *phpArray) set(key string, value any) {
	if _, ok := a.values[key]; !ok {
		a.keys = append(a.keys, key)
	}
	a.values[key] = value
	if n, err := strconv.Atoi(key); err == nil && strconv.Itoa(n) == key && n >= a.next {
		a.next = n + 1
	}
}

// params is the array as a map, the arrays in it as maps or lists.
func (a *phpArray) params() map[string]any {
	m := make(map[string]any, len(a.keys))
	for key, value := range a.values {
		if nested, ok := value.(*phpArray); ok {
			value = nested.value()
		}
		m[key] = value
	}
	return m
}

func (a *phpArray) value() any {
	m := a.params()
	list := make([]any, len(a.keys))
	for i, key := range a.keys {
		if key != strconv.Itoa(i) {
			return m
		}
		list[i] = m[key]
	}
	return list
}
