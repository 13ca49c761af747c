package load

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	var c cache
	const size = maxTreeBytes / 10
	c.put("hot", &manifest{size: size})
	for i := range 100 {
		c.put(fmt.Sprint(i), &manifest{size: size})
		if c.get("hot") == nil {
			t.Fatalf("what is used all the time was forgotten after %d others", i)
		}
	}
	if n := len(c.young) + len(c.old); n > 20 {
		t.Errorf("%d manifests of a tenth of the bound each are kept", n)
	}
	if c.get("0") != nil {
		t.Error("the first of a hundred is still there")
	}
	if c.put("", &manifest{}); c.get("") != nil {
		t.Error("unknown content was remembered")
	}
}

func TestDirCacheIsBounded(t *testing.T) {
	var c dirCache
	for i := range 100 {
		c.put(Entry{ID: "x", Path: fmt.Sprint(i)}, make([]Entry, maxEntries/4))
	}
	if n := len(c.lists); n == 0 || n > 20 {
		t.Errorf("%d lists of a quarter of a tree are kept", n)
	}
	if _, ok := c.get(Entry{ID: "x", Path: "99"}); !ok {
		t.Error("the newest list is gone")
	}
}

// A tree that is too large stays so when all of it is known.
func TestTheSumOfSizesHoldsForKnownFiles(t *testing.T) {
	files := map[string]string{}
	for f := range 40 {
		files[fmt.Sprintf("%02d.yaml", f)] = configMap(fmt.Sprint("c", f)) + "#" + strings.Repeat("x", maxFileBytes-100)
	}
	var l Loader
	r := newRepo(t)
	tree := r.at(r.files(files), "")
	cold, warm := say(t, &l, tree), say(t, &l, tree)
	want := "33.yaml:1:1: the first 33 manifests of the tree are more than 33554432 bytes together: nothing from here on was read\n"
	if cold != want || warm != want {
		t.Errorf("cold %s\nwarm %s", cold, warm)
	}
}

// What load returns is shared: a reader must not find that reading writes. A Quantity keeps its text once asked for it.
func TestReadingALoadedObjectDoesNotWrite(t *testing.T) {
	text := podWith("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]") +
		"  volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 2048Ki}}]\n"
	set, problems := loadFiles(t, map[string]string{"p.yaml": text})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	obj := set.Objects[0].Object
	before := obj.DeepCopyObject()
	if _, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, obj) {
		t.Error("writing the object down changed it")
	}
}

func TestOneLoaderServesMany(t *testing.T) {
	files := map[string][]byte{}
	for i := range 50 {
		files[fmt.Sprint(i, ".yaml")] = []byte(numbered(deploymentYAML, i))
	}
	var l Loader
	want := say(t, new(Loader), Files(files, ""))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			set, problems, err := l.Load(t.Context(), Files(files, ""))
			if err != nil || len(problems) > 0 {
				t.Error(problems, err)
			}
			for _, o := range set.Objects {
				if _, err := o.Object.(interface{ Marshal() ([]byte, error) }).Marshal(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := say(t, &l, Files(files, "")); got != want {
		t.Error("a shared loader reads otherwise")
	}
}
