package load

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mainstay-cluster/mainstay/object"
)

// parseYAML reads every document of a file. What it cannot read is a problem, and ends the file.
func parseYAML(text []byte, p *problems) []*value {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var documents []*value
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			syntaxProblem(text, err, p)
			return documents
		}
		b := builder{text: text, problems: p, built: map[*yaml.Node]*value{}}
		if v := b.document(&document); v != nil {
			documents = append(documents, v)
		}
	}
}

// builder turns the nodes of one document into values: it resolves aliases and merge keys, and refuses what YAML can say
// and JSON cannot.
type builder struct {
	text     []byte
	problems *problems
	built    map[*yaml.Node]*value // what has an anchor, nil while it is being built
	broken   bool                  // a problem was found that makes the document meaningless
}

// document returns nil for a document that holds nothing or cannot be used.
func (b *builder) document(n *yaml.Node) *value {
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 {
		return nil
	}
	v := b.build(n.Content[0], 1)
	if b.broken || v.form == formNull {
		return nil
	}
	return v
}

// build never returns nil.
func (b *builder) build(n *yaml.Node, depth int) *value {
	if b.broken {
		return &value{}
	}
	if n.Kind == yaml.AliasNode {
		return b.alias(n, depth)
	}
	if n.Anchor != "" {
		b.built[n] = nil
	}
	v := &value{position: position{n.Line, n.Column}, size: len(n.Value) + valueCost}
	b.fill(v, n, depth)
	if n.Anchor != "" {
		b.built[n] = v
	}
	return b.bounded(v, v.position, depth)
}

func (b *builder) fill(v *value, n *yaml.Node, depth int) {
	if !b.tagged(n) {
		return
	}
	switch n.Kind {
	case yaml.ScalarNode:
		b.scalar(v, n)
	case yaml.SequenceNode:
		v.form, v.height = formList, 1
		b.sequence(v, n, depth)
	case yaml.MappingNode:
		v.form, v.height = formObject, 1
		b.mapping(v, n, depth)
	}
}

func (b *builder) alias(n *yaml.Node, depth int) *value {
	at := position{n.Line, n.Column}
	v, started := b.built[n.Alias]
	switch {
	case !started: // yaml.v3 remembers anchors beyond their document
		b.fail(at, "alias *%s has no anchor &%s before it in this document", n.Value, n.Value)
		return &value{position: at}
	case v == nil:
		b.fail(at, "alias *%s stands inside of its own anchor", n.Value)
		return &value{position: at}
	}
	return b.bounded(v, at, depth)
}

// bounded refuses a value that is nested or, with its aliases written out, grown too far.
func (b *builder) bounded(v *value, at position, depth int) *value {
	switch {
	case depth+v.height-1 > maxNesting:
		b.fail(at, "is nested more than %d levels deep", maxNesting)
	case v.size > maxExpanded:
		b.fail(at, "grows to more than %d bytes when its aliases are written out", maxExpanded)
	}
	return v
}

func (b *builder) fail(at position, format string, args ...any) {
	if !b.broken {
		b.broken = true
		b.problems.lose(at, format, args...)
	}
}

func (b *builder) sequence(v *value, n *yaml.Node, depth int) {
	if b.tooDeep(n, depth) {
		return
	}
	v.items = make([]*value, 0, len(n.Content))
	for _, child := range n.Content {
		v.adopt(b.build(child, depth+1))
		if b.bounded(v, v.position, depth); b.broken {
			return
		}
	}
}

func (b *builder) tooDeep(n *yaml.Node, depth int) bool {
	if depth > maxNesting {
		b.fail(position{n.Line, n.Column}, "is nested more than %d levels deep", maxNesting)
	}
	return b.broken
}

// adopt appends an item and counts what it weighs.
func (v *value) adopt(item *value) {
	v.items = append(v.items, item)
	v.size += item.size
	v.height = max(v.height, item.height+1)
}

func (b *builder) mapping(v *value, n *yaml.Node, depth int) {
	if b.tooDeep(n, depth) {
		return
	}
	v.keys = make([]key, 0, len(n.Content)/2)
	v.items = make([]*value, 0, len(n.Content)/2)
	seen := make(map[string]position, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, item := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.Tag == "!!merge" {
			merges = append(merges, item)
			continue
		}
		name, ok := b.key(k)
		if !ok {
			continue
		}
		at := position{k.Line, k.Column}
		if first, twice := seen[name]; twice {
			b.problems.at(at, "key %q is set already at line %d: remove one of them", object.Shorten(name), first.line)
			continue
		}
		seen[name] = at
		v.keys = append(v.keys, key{name: name, position: at})
		v.size += len(name)
		v.adopt(b.build(item, depth+1))
		if b.bounded(v, v.position, depth); b.broken {
			return
		}
	}
	for _, m := range merges {
		b.merge(v, m, seen, depth)
	}
}

// merge adds what `<<` names and v does not have itself: an alias of an object, or a list of them, the first winning.
func (b *builder) merge(v *value, n *yaml.Node, seen map[string]position, depth int) {
	from := b.build(n, depth)
	if b.broken {
		return
	}
	sources := []*value{from}
	if from.form == formList {
		sources = from.items
	}
	for _, source := range sources {
		if source.form != formObject {
			b.problems.at(position{n.Line, n.Column}, "a merge key takes an alias of an object, or a list of such aliases")
			return
		}
		for i, k := range source.keys {
			if _, has := seen[k.name]; has {
				continue
			}
			seen[k.name] = k.position
			v.keys = append(v.keys, k)
			v.size += len(k.name)
			v.adopt(source.items[i])
		}
		if b.bounded(v, v.position, depth); b.broken {
			return
		}
	}
}

// key wants text: anything else means one thing here and another in JSON.
func (b *builder) key(n *yaml.Node) (string, bool) {
	at := position{n.Line, n.Column}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		if looksLikeTemplate(lineOf(b.text, at.line)) {
			b.fail(at, "looks like an unrendered template (%s): commit what the template renders to", "{{ … }}")
		} else {
			b.fail(at, "a key must be text, not %s", map[yaml.Kind]string{yaml.MappingNode: "an object"}[n.Kind]+map[yaml.Kind]string{yaml.SequenceNode: "a list"}[n.Kind])
		}
		return "", false
	}
	var v value
	if !b.tagged(n) {
		return "", false
	}
	b.scalar(&v, n)
	if v.form == formText {
		return v.text, true
	}
	b.problems.at(at, "a key must be text, not %s: quote it", v.form)
	return "", false
}

// tagged refuses tags: they name types that JSON does not have. !!str, !!map and !!seq say what is so anyway.
func (b *builder) tagged(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	plain := map[yaml.Kind]string{yaml.ScalarNode: "!!str", yaml.SequenceNode: "!!seq", yaml.MappingNode: "!!map"}
	if n.Tag == plain[n.Kind] {
		return true
	}
	b.problems.at(position{n.Line, n.Column}, "tag %s is not known: write a plain value", object.Shorten(n.Tag))
	return false
}

const quotedStyles = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle

// scalar reads plain words as kubectl does, which still follows YAML 1.1 in what is true and false.
func (b *builder) scalar(v *value, n *yaml.Node) {
	v.form, v.text = formText, n.Value
	if n.Style&quotedStyles != 0 {
		if strings.ContainsRune(n.Value, 0) {
			b.problems.at(position{n.Line, n.Column}, "holds a NUL character: remove it")
			v.text = ""
		}
		return
	}
	switch n.Tag {
	case "!!null":
		v.form, v.text = formNull, ""
	case "!!bool":
		v.form, v.text = formBool, strings.ToLower(n.Value)
	case "!!int", "!!float":
		v.form = formNumber
	case "!!str":
		if truth, ok := words[n.Value]; ok {
			v.form, v.text, v.word = formBool, truth, true
		}
	}
}

// words are what YAML 1.1 takes for a truth value beside true and false.
var words = func() map[string]string {
	m := make(map[string]string)
	for truth, list := range map[string]string{"true": "y yes on", "false": "n no off"} {
		for _, word := range strings.Fields(list) {
			m[word], m[strings.ToUpper(word)], m[strings.ToUpper(word[:1])+word[1:]] = truth, truth, truth
		}
	}
	return m
}()

func looksLikeTemplate(line []byte) bool { return bytes.Contains(line, []byte("{{")) }

var lineInError = regexp.MustCompile(`^line (\d+): `)

// syntaxProblem says what the YAML parser could not read. Its lines are off by one at times and its words are for
// parser authors, so the usual mistakes are looked for in the text.
func syntaxProblem(text []byte, err error, p *problems) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	at := position{1, 1}
	if m := lineInError.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		at = startOfLine(text, atoi(m[1]))
	}
	switch {
	case strings.HasPrefix(message, "unknown anchor '"):
		name := strings.Split(message, "'")[1]
		if i := bytes.Index(text, []byte("*"+name)); i >= 0 {
			at = positionOf(text, i)
		}
		message = "alias *" + name + " has no anchor &" + name + " before it in this document"
	case strings.Contains(message, "exceeded max depth"):
		message = "is nested far too deep"
	default:
		at, message = usualMistake(text, at, message)
	}
	p.lose(at, "%s", message)
}

func usualMistake(text []byte, at position, message string) (position, string) {
	if line, ok := findLine(text, looksLikeTemplate); ok {
		return startOfLine(text, line), "is not YAML: it looks like an unrendered template ({{ … }}): commit what the template renders to"
	}
	if line, ok := findLine(text, tabIndented); ok && strings.Contains(message, "cannot start any token") {
		start := startOfLine(text, line)
		tab := bytes.IndexByte(lineOf(text, line), '\t')
		return position{line: start.line, col: tab + 1}, "is not YAML: indent with spaces, not tabs"
	}
	return at, "is not YAML: " + message
}

func tabIndented(line []byte) bool {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	return bytes.IndexByte(indent, '\t') >= 0 && len(indent) < len(line)
}

func findLine(text []byte, match func([]byte) bool) (int, bool) {
	lines := bytes.Split(text, []byte("\n"))
	i := slices.IndexFunc(lines, match)
	return i + 1, i >= 0
}

// startOfLine is where a line's text begins.
func startOfLine(text []byte, line int) position {
	content := lineOf(text, line)
	return position{line: line, col: 1 + len(content) - len(bytes.TrimLeft(content, " \t"))}
}
