package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/object/kube"
)

// agree holds what was loaded against Kubernetes' own reading of Declared: strict JSON decoding without a complaint, the
// same defaults, and in the end the same object.
func agree(t testing.TB, o Object) {
	t.Helper()
	want := o.Kind.New()
	strict, err := kubejson.UnmarshalStrict(o.Declared, want)
	if err != nil || len(strict) > 0 {
		t.Errorf("%s:%d: we take what Kubernetes does not: %v %v\n%s", o.Path, o.Line, err, strict, o.Declared)
		return
	}
	kube.Default(want)
	if !apiequality.Semantic.DeepEqual(want, o.Object) {
		t.Errorf("%s:%d: -kubernetes +mainstay:\n%s", o.Path, o.Line, cmp.Diff(want, o.Object))
	}
}

// TestCorpusAgreesWithKubernetes: what load accepts, kubectl and an API server read the same way.
func TestCorpusAgreesWithKubernetes(t *testing.T) {
	names, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, name := range names {
		a := readArchive(t, name)
		for file, data := range a.files {
			// One file at a time: most of the corpus is meant to be refused as a whole, but has good documents too.
			if !isManifest(file) || strings.HasPrefix(file, ".") {
				continue
			}
			m := parseFile(file, data)
			if len(m.problems) > 0 {
				continue
			}
			for _, d := range m.declarations {
				agree(t, d.Object)
				compared++
			}
		}
	}
	if compared < 35 {
		t.Errorf("only %d objects compared", compared)
	}
}

// TestYAMLAgreesWithKubectl compares the YAML reading with the library that kubectl uses, for one document of everything
// that both should read alike.
func TestYAMLAgreesWithKubectl(t *testing.T) {
	text, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var p problems
	documents := parseYAML(text, &p)
	if len(p.list) > 0 || len(documents) != 1 {
		t.Fatalf("%d documents, problems %v", len(documents), p.list)
	}
	want, err := yaml.YAMLToJSON(text) // strict, it would refuse a merge key that is overridden
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs any
	if err := yaml.Unmarshal(documents[0].appendJSON(nil), &ours); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(want, &theirs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("-kubectl +mainstay:\n%s", diff)
	}
}
