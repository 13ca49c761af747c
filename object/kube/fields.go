package kube

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed fields.txt
var fieldsText string

// node is what is known of one field: what may stand below it, or its values, or why it is refused.
type node struct {
	below  map[string]*node // nil: everything
	order  []string         // the keys of below as fields.txt has them
	list   bool
	keyed  bool     // below are the keys of a map, not fields
	values []string // nil: any
	note   string
	refuse string
}

// fieldTrees holds the tree of each section of fields.txt, those of kinds under the kind's name.
var fieldTrees = sync.OnceValue(func() map[string]*node {
	trees, err := parseFields(fieldsText)
	if err != nil {
		panic(err) // the text is part of the program and parsed by a test
	}
	return trees
})

func parseFields(text string) (map[string]*node, error) {
	trees := make(map[string]*node)
	var current *node
	links := make(map[*node]string)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			current = &node{below: map[string]*node{}}
			trees[strings.Trim(line, "[]")] = current
		case current == nil:
			return nil, fmt.Errorf("fields.txt:%d: a field outside of a section", i+1)
		default:
			current.parse(line, links)
		}
	}
	return trees, link(trees, links)
}

// parse adds one line of fields.txt below n.
func (n *node) parse(line string, links map[*node]string) {
	line, note, _ := strings.Cut(line, " # ")
	if path, why, ok := strings.Cut(strings.TrimPrefix(line, "! "), ": "); ok && strings.HasPrefix(line, "! ") {
		n.at(path).refuse = why
		return
	}
	if path, section, ok := strings.Cut(line, " -> "); ok {
		links[n.at(path)] = section
		return
	}
	path, values, ok := strings.Cut(line, " = ")
	field := n.at(strings.TrimSpace(path))
	field.note = note
	if ok {
		field.values = strings.Split(strings.TrimSpace(values), " | ")
	}
}

// at finds or makes the node at a path of fields.txt.
func (n *node) at(path string) *node {
	for _, key := range strings.Split(path, ".") {
		key, list := strings.CutSuffix(key, "[]")
		key, keyed := strings.CutSuffix(key, "{}")
		if n.below == nil {
			n.below = map[string]*node{}
		}
		if n.below[key] == nil {
			n.below[key] = &node{}
			n.order = append(n.order, key)
		}
		n = n.below[key]
		n.list, n.keyed = n.list || list, n.keyed || keyed
	}
	return n
}

// link puts sections where lines refer to them.
func link(trees map[string]*node, links map[*node]string) error {
	for n, section := range links {
		target := trees[section]
		if target == nil {
			return fmt.Errorf("fields.txt: no section [%s]", section)
		}
		n.below, n.order = target.below, target.order
	}
	return nil
}
