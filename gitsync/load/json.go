package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mainstay-cluster/mainstay/object"
)

// parseJSON reads every value of a .json file; files hold one, but a stream of them is as clear.
func parseJSON(text []byte, p *problems) []*value {
	r := jsonReader{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), problems: p, at: position{1, 1}}
	r.decoder.UseNumber()
	var documents []*value
	for {
		v, err := r.next(1)
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			r.fail(err)
			return documents
		}
		if v.form != formNull {
			documents = append(documents, v)
		}
	}
}

// jsonReader follows a decoder through the text to know where it is.
type jsonReader struct {
	text     []byte
	decoder  *json.Decoder
	problems *problems
	offset   int      // of at
	at       position // of the token read last
}

var errNesting = fmt.Errorf("is nested more than %d levels deep", maxNesting)

func (r *jsonReader) fail(err error) {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, errNesting):
		r.problems.lose(r.at, "%s", err)
	case errors.As(err, &syntax):
		r.problems.lose(positionOf(r.text, int(max(syntax.Offset-1, 0))), "is not JSON: %s", syntax)
	case errors.Is(err, io.ErrUnexpectedEOF):
		r.problems.lose(positionOf(r.text, len(r.text)), "is not JSON: the file ends too early")
	default:
		r.problems.lose(positionOf(r.text, int(r.decoder.InputOffset())), "is not JSON: %s", err)
	}
}

// token reads a token and moves to where it begins.
func (r *jsonReader) token() (json.Token, error) {
	start := int(r.decoder.InputOffset())
	t, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	for start < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[start]) >= 0 {
		start++
	}
	r.move(start)
	return t, nil
}

func (r *jsonReader) move(offset int) {
	passed := r.text[r.offset:offset]
	if n := bytes.Count(passed, []byte("\n")); n > 0 {
		r.at.line += n
		r.at.col = 1
		passed = passed[bytes.LastIndexByte(passed, '\n')+1:]
	}
	r.at.col += utf8.RuneCount(passed)
	r.offset = offset
}

// next reads a value. At the end of a list or an object it returns nil.
func (r *jsonReader) next(depth int) (*value, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	v := &value{position: r.at}
	switch t := t.(type) {
	case nil:
		v.form = formNull
	case bool:
		v.form, v.text = formBool, strconv.FormatBool(t)
	case json.Number:
		v.form, v.text = formNumber, t.String()
	case string:
		v.form, v.text = formText, t
		if strings.ContainsRune(t, 0) {
			r.problems.at(r.at, "holds a NUL character: remove it")
			v.text = ""
		}
	case json.Delim:
		return r.container(v, t, depth)
	}
	return v, nil
}

func (r *jsonReader) container(v *value, open json.Delim, depth int) (*value, error) {
	switch {
	case open == ']' || open == '}':
		return nil, nil
	case depth > maxNesting:
		return nil, errNesting
	case open == '[':
		v.form = formList
		return v, r.list(v, depth)
	}
	v.form = formObject
	return v, r.object(v, depth)
}

func (r *jsonReader) list(v *value, depth int) error {
	for {
		item, err := r.next(depth + 1)
		if err != nil {
			return midway(err)
		}
		if item == nil {
			return nil
		}
		v.adopt(item)
	}
}

func (r *jsonReader) object(v *value, depth int) error {
	seen := make(map[string]position)
	for {
		t, err := r.token()
		if err != nil {
			return midway(err)
		}
		name, ok := t.(string)
		if !ok {
			return nil // the closing brace
		}
		at := r.at
		item, err := r.next(depth + 1)
		if err != nil {
			return midway(err)
		}
		if first, twice := seen[name]; twice {
			r.problems.at(at, "key %q is set already at line %d: remove one of them", object.Shorten(name), first.line)
			continue
		}
		seen[name] = at
		v.keys = append(v.keys, key{name: name, position: at})
		v.adopt(item)
	}
}

// midway turns the end of the file into an error where a value is not complete.
func midway(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
