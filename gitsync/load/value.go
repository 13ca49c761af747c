package load

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// form is what a value is, before any type has looked at it.
type form uint8

const (
	formNull form = iota
	formBool
	formNumber
	formText
	formList
	formObject
)

func (f form) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "an object"}[f]
}

// position is a place in a file; both count from 1, columns in characters.
type position struct{ line, col int }

// value is a piece of YAML or JSON with its place. Aliases make values shared, so the tree is a graph without cycles.
type value struct {
	form form
	text string // of a scalar: as it will be in JSON; of a bool "true" or "false"; of a number as it was written
	word bool   // a bool written as yes, no, on, off, y or n
	position
	keys   []key    // of an object, in the order they were written
	items  []*value // of a list, or the values of keys
	size   int      // bytes, were every alias written out
	height int      // levels of objects and lists, this one included
}

type key struct {
	name string
	position
}

// get returns the value of a key, nil if there is none.
func (v *value) get(name string) *value {
	_, item := v.find(name)
	return item
}

func (v *value) find(name string) (key, *value) {
	if v == nil || v.form != formObject {
		return key{}, nil
	}
	for i, k := range v.keys {
		if k.name == name {
			return k, v.items[i]
		}
	}
	return key{}, nil
}

// set adds a key or replaces its value.
func (v *value) set(name string, item *value) {
	for i, k := range v.keys {
		if k.name == name {
			v.items[i] = item
			return
		}
	}
	v.keys = append(v.keys, key{name: name, position: item.position})
	v.items = append(v.items, item)
}

// raw is v as encoding/json would give it, but for numbers, which stay as they were written.
func (v *value) raw() any {
	switch v.form {
	case formNull:
		return nil
	case formBool:
		return v.text == "true"
	case formList:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			list[i] = item.raw()
		}
		return list
	case formObject:
		object := make(map[string]any, len(v.keys))
		for i, k := range v.keys {
			object[k.name] = v.items[i].raw()
		}
		return object
	}
	return v.text
}

// appendJSON writes v with sorted keys and without what is null, so that the same content has the same bytes.
func (v *value) appendJSON(b []byte) []byte {
	switch v.form {
	case formNull:
		return append(b, "null"...)
	case formBool, formNumber:
		return append(b, v.text...)
	case formText:
		return appendQuoted(b, v.text)
	case formList:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	}
	return v.appendObject(b)
}

func (v *value) appendObject(b []byte) []byte {
	order := make([]int, 0, len(v.keys))
	for i := range v.keys {
		if v.items[i].form != formNull {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(v.keys[i].name, v.keys[j].name) })
	b = append(b, '{')
	for n, i := range order {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, v.keys[i].name)
		b = append(b, ':')
		b = v.items[i].appendJSON(b)
	}
	return append(b, '}')
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes a JSON string; s is valid UTF-8.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			_, n := utf8.DecodeRuneInString(s[i:])
			b = append(b, s[i:i+n]...)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// place finds what a field path such as spec.containers[0].resources.limits[cpu] names: the value and where its key, or
// the list item itself, stands. If the path goes on where the document does not, it is the last part that exists.
func (v *value) place(path string) (at *value, keyAt position, complete bool) {
	at, keyAt = v, v.position
	for path != "" {
		var step string
		step, path = cutStep(path)
		next, nextAt := at.step(step)
		if next == nil {
			return at, keyAt, false
		}
		at, keyAt = next, nextAt
	}
	return at, keyAt, true
}

func (v *value) step(name string) (*value, position) {
	if v.form == formList {
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= len(v.items) {
			return nil, position{}
		}
		return v.items[i], v.items[i].position
	}
	k, item := v.find(name)
	return item, k.position
}

// cutStep takes the first step off a path. Keys in brackets may hold dots.
func cutStep(path string) (step, rest string) {
	if strings.HasPrefix(path, "[") {
		if end := strings.IndexByte(path, ']'); end > 0 {
			return path[1:end], strings.TrimPrefix(path[end+1:], ".")
		}
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], strings.TrimPrefix(path[end:], ".")
}
