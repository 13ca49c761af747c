package load

import (
	"context"
	"errors"
	"slices"
	"testing"
)

const deploymentYAML = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: hello:1
        ports:
        - containerPort: 8080
`

func loadFiles(t *testing.T, files map[string]string) (Set, []string) {
	t.Helper()
	tree := make(map[string][]byte)
	for name, text := range files {
		tree[name] = []byte(text)
	}
	var l Loader
	set, problems, err := l.Load(t.Context(), Files(tree, ""))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return set, lines
}

func TestLoadOneDeployment(t *testing.T) {
	set, problems := loadFiles(t, map[string]string{"apps/web.yaml": deploymentYAML})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(set.Objects) != 1 || set.Objects[0].Path != "apps/web.yaml" || set.Objects[0].Line != 1 {
		t.Errorf("objects = %+v", set.Objects)
	}
	want := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"app":"web"},"name":"web","namespace":"default"},` +
		`"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},` +
		`"spec":{"containers":[{"image":"hello:1","name":"web","ports":[{"containerPort":8080}]}]}}}}`
	if got := string(set.Objects[0].Declared); got != want {
		t.Errorf("declared = %s\nwant       %s", got, want)
	}
}

func TestPositionOfAField(t *testing.T) {
	const text = "# two objects, one in a List\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: b\n  data:\n    k: v\n"
	set, _ := loadFiles(t, map[string]string{"x.yaml": text, "y.json": `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}`})
	for _, tc := range []struct {
		name, field  string
		line, column int
	}{
		{"a", "metadata.name", 4, 12},
		{"a", "data", 2, 1}, // not named: where the object begins
		{"b", "metadata.name", 12, 5},
		{"b", "data[k]", 14, 5},
		{"c", "metadata.name", 1, 56},
	} {
		i := slices.IndexFunc(set.Objects, func(o Object) bool { return o.Object.GetName() == tc.name })
		if line, column := set.Objects[i].Position(tc.field); line != tc.line || column != tc.column {
			t.Errorf("%s of %s is at %d:%d, want %d:%d", tc.field, tc.name, line, column, tc.line, tc.column)
		}
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	r := newRepo(t)
	tree := r.at(r.files(map[string]string{"a.yaml": configMap("a")}), "")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer leader")
	cancel(why)
	if _, _, err := new(Loader).Load(ctx, tree); !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
}
