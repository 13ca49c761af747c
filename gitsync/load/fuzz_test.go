package load

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad: whatever a file holds, load does not panic, says the same twice, gives each problem a place inside of the
// file, and reads what it accepts as Kubernetes does.
func FuzzLoad(f *testing.F) {
	names, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		for file, data := range readArchive(f, name).files {
			if isManifest(file) {
				f.Add(filepath.Ext(file) == ".json", data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, isJSON bool, data []byte) {
		name := "app.yaml"
		if isJSON {
			name = "app.json"
		}
		m := parseFile(name, data)
		lines := 1 + strings.Count(string(data), "\n")
		for _, p := range m.problems {
			if strings.Contains(p.Message, "bug in Mainstay") || p.Message == "" {
				t.Errorf("%+v", p)
			}
			if p.Line < 1 || p.Line > lines+1 || p.Column < 1 {
				t.Errorf("a problem outside of the %d lines: %+v", lines, p)
			}
		}
		tree := Files(map[string][]byte{name: data}, "")
		var l Loader
		if first, again := say(t, &l, tree), say(t, new(Loader), tree); first != again {
			t.Errorf("first\n%s\nthen\n%s", first, again)
		}
		if len(m.problems) > 0 {
			return
		}
		for _, d := range m.declarations {
			agree(t, d.Object)
		}
	})
}
