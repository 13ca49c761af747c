package object_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/object"
)

var record = flag.Bool("record-level", false, "write what the newest format level stores, if that is not written yet; it is never rewritten")

// stored lists what servers store: every kind, and every field of those that are Mainstay's own.
func stored() string {
	var b strings.Builder
	for _, k := range object.Stored() {
		fmt.Fprintf(&b, "%s since %d\n", k.GroupVersionKind, max(1, k.Since))
		if k.Group != object.GroupVersion.Group {
			continue
		}
		for _, part := range []string{"Spec", "Status"} {
			if field, ok := reflect.TypeOf(k.New()).Elem().FieldByName(part); ok {
				fields(&b, strings.ToLower(part), field.Type)
			}
		}
	}
	return b.String()
}

func fields(b *strings.Builder, path string, t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.HasSuffix(t.PkgPath(), "mainstay/object") {
		fmt.Fprintf(b, "  %s %s\n", path, t)
		return
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields(b, path+"."+name, t.Field(i).Type)
	}
}

// What a level stores was written down once. More of it is another level, and is not written before the cluster has reached it:
// older servers would not read a new kind, and would lose a new field.
func TestWhatIsStoredBelongsToALevel(t *testing.T) {
	name := fmt.Sprintf("testdata/stored/level%d.txt", object.Level)
	if *record {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatalf("levels are written down once: %v", err)
		}
		fmt.Fprint(f, stored())
		f.Close()
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), stored()); diff != "" {
		t.Errorf("what is stored has changed: raise object.Level, give a new kind that level by Since, write a new field only once the cluster "+
			"has reached it, and record the level by -record-level. A level that no release has yet may be removed and recorded anew:\n%s", diff)
	}
	for _, k := range object.Stored() {
		if k.Since > object.Level {
			t.Errorf("%s is of level %d, and the newest is %d", k.Kind, k.Since, object.Level)
		}
	}
}
