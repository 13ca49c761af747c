package load

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what load says now into the corpus; read every line of the diff")

// archive is a file of testdata/corpus: a comment, then files, each after a line `-- name --`. The lines of a file
// marked `-- name (quoted) --` are Go strings. The file "want" is what load must say.
type archive struct {
	comment string
	files   map[string][]byte
	want    string
	text    []byte // all before want
}

func readArchive(t testing.TB, name string) archive {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	a := archive{files: map[string][]byte{}}
	file, quoted := "", false
	for line := range bytes.Lines(data) {
		if header, ok := bytes.CutPrefix(line, []byte("-- ")); ok && bytes.HasSuffix(line, []byte(" --\n")) {
			file = string(bytes.TrimSuffix(header, []byte(" --\n")))
			file, quoted = strings.CutSuffix(file, " (quoted)")
			if file != "want" {
				a.files[file] = []byte{}
			}
		} else if file == "" {
			a.comment += string(line)
		} else if file == "want" {
			a.want += string(line)
			continue
		} else {
			a.files[file] = append(a.files[file], unquote(t, line, quoted)...)
		}
		if file != "want" {
			a.text = append(a.text, line...)
		}
	}
	return a
}

func unquote(t testing.TB, line []byte, quoted bool) []byte {
	if !quoted {
		return line
	}
	s, err := strconv.Unquote(string(bytes.TrimSpace(line)))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return []byte(s)
}

// say is all that Load says of a tree, as text.
func say(t testing.TB, l *Loader, tree Tree) string {
	set, problems, err := l.Load(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p)
	}
	for _, o := range set.Objects {
		fmt.Fprintf(&b, "%s:%d: %s\n", o.Path, o.Line, o.Declared)
	}
	return b.String()
}

// TestCorpus holds load to the exact words for every input in testdata/corpus.
func TestCorpus(t *testing.T) {
	names, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d corpus files: %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a := readArchive(t, name)
			var l Loader
			got := say(t, &l, Files(a.files, ""))
			if *update {
				text := append(a.text, []byte("-- want --\n"+got)...)
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(a.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again := say(t, &l, Files(a.files, "")); again != got {
				t.Errorf("a warm load differs:\n%s", cmp.Diff(got, again))
			}
		})
	}
}
