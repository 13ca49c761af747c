package kube

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/object"
)

var update = flag.Bool("update", false, "write docs/kinds.md")

const kindsDoc = "../../docs/kinds.md"

// TestKindsDocIsCurrent keeps docs/kinds.md the same as the code; with -update it writes it.
func TestKindsDocIsCurrent(t *testing.T) {
	got := kindsMarkdown()
	if *update {
		if err := os.WriteFile(kindsDoc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(kindsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/kinds.md is not what object/kube/fields.txt says; run go test ./object/kube -update\n%s", diff)
	}
}

func kindsMarkdown() string {
	var b strings.Builder
	b.WriteString(`<!-- Made from object/kube/fields.txt by "go test ./object/kube -update". Do not edit. -->
# Kinds and fields

What a repository may declare, and which fields of it Mainstay carries out. Nothing is silently ignored: a kind, a field or
a value that is not listed here rejects the commit that names it, with the file, line and column. What is listed means
what it means in Kubernetes, with Kubernetes' own defaults and validation. A field that is null, and ` + "`status: {}`" + `, count as
not written.

## How files are read

Files ending in .yaml, .yml or .json below --path, except names that begin with a dot and what .mainstayignore (gitignore
syntax, in any directory) names. Symbolic links, submodules and Git LFS pointers are not followed: where one stands for a
manifest, it is a problem.

- YAML is read as kubectl reads it, several documents to a file, and ` + "`kind: List`" + ` is taken apart. Anchors, aliases and merge
  keys (` + "`<<`" + `) work within a document, as long as it would be no more than 1 MiB with all aliases written out. Other tags than
  ` + "`!!str`" + `, keys that are not text, keys set twice, and anything that is not plain UTF-8 text are problems.
- Nothing is guessed: ` + "`no`, `1.10` or `8080`" + ` where text belongs must be quoted; whole numbers are written in plain digits; an item or a
  map value without a value is a problem.
- Beyond Kubernetes' own validation: images must be well-formed, environment names unique, node ports within 30000-32767,
  a ConfigMap, Secret, key or Namespace that is needed must be declared (or optional), and no two workloads of a namespace may
  select each other's Pods. Labels and annotations under mainstay.dev/ are Mainstay's own.
- Bounds: 1 MiB a file, 32 MiB and 20,000 names a tree, 32 directories and 64 levels of nesting deep, 50,000 objects.
- Every problem of a commit is reported at once, as path:line:column, and never with a value of a Secret or of an environment variable.
- A tree without any object is a problem too. A repository that is meant to be empty holds a mainstay.yaml with a Cluster.

## Kinds

Names and metadata are the same for all kinds: see [Metadata](#metadata). Templates of Pods have the fields of a [Pod](#pod).

`)
	b.WriteString("| kind | apiVersion | short |\n|---|---|---|\n")
	for _, k := range supported() {
		fmt.Fprintf(&b, "| [%s](#%s) | `%s` | %s |\n", k.Kind.Kind, strings.ToLower(k.Kind.Kind), k.Kind.GroupVersion(), strings.Join(k.Kind.ShortNames, ", "))
	}
	for _, k := range supported() {
		fmt.Fprintf(&b, "\n## %s\n\n", k.Kind.Kind)
		table(&b, ownFields(k.Fields))
	}
	b.WriteString("\n## Metadata\n\n")
	table(&b, slices.DeleteFunc(supported()[0].Fields, func(f fieldLine) bool { return !strings.HasPrefix(f.Path, "metadata.") }))
	return b.String()
}

// ownFields leaves out what is described once for all kinds.
func ownFields(fields []fieldLine) (own []fieldLine) {
	for _, f := range fields {
		switch {
		case strings.HasPrefix(f.Path, "metadata."), f.Path == "apiVersion", f.Path == "kind":
		case strings.HasPrefix(f.Path, "spec.template.spec."):
			if !slices.ContainsFunc(own, func(f fieldLine) bool { return f.Path == "spec.template.spec" }) {
				own = append(own, fieldLine{Path: "spec.template.spec", Note: "as `spec` of a [Pod](#pod)"})
			}
		default:
			own = append(own, f)
		}
	}
	return own
}

func table(b *strings.Builder, fields []fieldLine) {
	if slices.ContainsFunc(fields, func(f fieldLine) bool { return f.Refused == "" }) {
		b.WriteString("| field | |\n|---|---|\n")
	}
	for _, f := range fields {
		if f.Refused == "" {
			fmt.Fprintf(b, "| `%s` | %s |\n", f.Path, remark(f))
		}
	}
	refused(b, fields)
}

func remark(f fieldLine) string {
	var parts []string
	if len(f.Values) > 0 {
		parts = append(parts, "`"+strings.Join(f.Values, "`, `")+"`")
	}
	if f.Note != "" {
		parts = append(parts, f.Note)
	}
	return strings.Join(parts, "; ")
}

func refused(b *strings.Builder, fields []fieldLine) {
	if !slices.ContainsFunc(fields, func(f fieldLine) bool { return f.Refused != "" }) {
		return
	}
	b.WriteString("\nRefused, as is everything that is not listed:\n\n")
	for _, f := range fields {
		if f.Refused != "" {
			fmt.Fprintf(b, "- `%s`: %s\n", f.Path, f.Refused)
		}
	}
}

// kindFields is what Mainstay carries out of one kind.
type kindFields struct {
	Kind   object.Kind
	Fields []fieldLine
}

// fieldLine is one line of kindFields. With Refused set, it says why the field rejects a commit; every field that is not
// listed does so too.
type fieldLine struct {
	Path    string   // lists are marked by []
	Values  []string // the only values carried out; any if nil
	Note    string
	Refused string
}

// supported lists what Mainstay carries out of each declarable kind, in the order of object.Kinds and of the manifest.
func supported() []kindFields {
	var all []kindFields
	for _, k := range object.Kinds() {
		if tree := fieldTrees()[k.Kind]; tree != nil && k.Declarable {
			all = append(all, kindFields{Kind: k, Fields: tree.flatten("", nil)})
		}
	}
	return all
}

func (n *node) flatten(path string, fields []fieldLine) []fieldLine {
	if n.below == nil || n.refuse != "" {
		return append(fields, fieldLine{Path: path, Values: n.values, Note: n.note, Refused: n.refuse})
	}
	for _, key := range n.order {
		below := n.below[key]
		child := strings.TrimPrefix(path+"."+key, ".")
		if below.list {
			child += "[]"
		}
		fields = below.flatten(child, fields)
	}
	return fields
}
