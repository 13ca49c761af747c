package load

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
)

// repo writes objects of any shape, also those that Git would not make.
type repo struct {
	t     testing.TB
	store *memory.Storage
}

func newRepo(t testing.TB) *repo { return &repo{t: t, store: memory.NewStorage()} }

func (r *repo) put(kind plumbing.ObjectType, data []byte) plumbing.Hash {
	r.t.Helper()
	o := r.store.NewEncodedObject()
	o.SetType(kind)
	w, err := o.Writer()
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	hash, err := r.store.SetEncodedObject(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return hash
}

func (r *repo) blob(text string) plumbing.Hash { return r.put(plumbing.BlobObject, []byte(text)) }

type treeEntry struct {
	name string
	mode filemode.FileMode
	hash plumbing.Hash
}

func (r *repo) tree(entries ...treeEntry) plumbing.Hash {
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%o %s\x00", uint32(e.mode), e.name)
		b.Write(e.hash[:])
	}
	return r.put(plumbing.TreeObject, b.Bytes())
}

// files makes nested trees of regular files.
func (r *repo) files(files map[string]string) plumbing.Hash {
	here := map[string]treeEntry{}
	below := map[string]map[string]string{}
	for name, text := range files {
		dir, rest, nested := strings.Cut(name, "/")
		if !nested {
			here[name] = treeEntry{name, filemode.Regular, r.blob(text)}
			continue
		}
		if below[dir] == nil {
			below[dir] = map[string]string{}
		}
		below[dir][rest] = text
	}
	for dir, files := range below {
		here[dir] = treeEntry{dir, filemode.Dir, r.files(files)}
	}
	var entries []treeEntry
	for _, e := range here {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return strings.Compare(a.name, b.name) })
	return r.tree(entries...)
}

func (r *repo) commit(tree plumbing.Hash) plumbing.Hash {
	r.t.Helper()
	who := gitobject.Signature{Name: "Ada", Email: "ada@example.com", When: time.Unix(1, 0)}
	o := r.store.NewEncodedObject()
	if err := (&gitobject.Commit{TreeHash: tree, Author: who, Committer: who}).Encode(o); err != nil {
		r.t.Fatal(err)
	}
	hash, err := r.store.SetEncodedObject(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return hash
}

func (r *repo) at(tree plumbing.Hash, dir string) Tree {
	r.t.Helper()
	t, err := Git(r.store, r.commit(tree), dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {a: b}\n"
}

func TestGitTreeBelowPath(t *testing.T) {
	r := newRepo(t)
	root := r.files(map[string]string{"prod/east/a.yaml": configMap("a"), "prod/west/b.yaml": "kind: [", "c.yaml": "kind: ["})
	var l Loader
	set, problems, err := l.Load(t.Context(), r.at(root, "/prod/east/"))
	if err != nil || len(problems) > 0 || len(set.Objects) != 1 || set.Objects[0].Path != "prod/east/a.yaml" {
		t.Errorf("set %+v, problems %v, err %v", set, problems, err)
	}
	for _, dir := range []string{"nowhere", "prod/east/a.yaml", "prod/../nowhere", "c.yaml/x"} {
		if _, err := Git(r.store, r.commit(root), dir); !errors.Is(err, ErrNoPath) {
			t.Errorf("path %s: %v", dir, err)
		}
	}
}

// A commit whose objects are not all there must never look like a commit with fewer files (P3).
func TestMissingObjectIsAnErrorAndNotAnAbsence(t *testing.T) {
	gone := plumbing.NewHash("00000000000000000000000000000000000000aa")
	for name, entry := range map[string]treeEntry{
		"blob":   {"b.yaml", filemode.Regular, gone},
		"tree":   {"b", filemode.Dir, gone},
		"ignore": {".mainstayignore", filemode.Regular, gone},
	} {
		r := newRepo(t)
		var l Loader
		_, problems, err := l.Load(t.Context(), r.at(r.tree(entry, treeEntry{"c.yaml", filemode.Regular, r.blob(configMap("c"))}), ""))
		if err == nil || !errors.Is(err, plumbing.ErrObjectNotFound) {
			t.Errorf("%s: problems %v, err %v", name, problems, err)
		}
	}
	r := newRepo(t)
	if _, err := Git(r.store, gone, ""); !errors.Is(err, plumbing.ErrObjectNotFound) {
		t.Errorf("commit: %v", err)
	}
}

func TestOddTreeEntries(t *testing.T) {
	r := newRepo(t)
	file := r.blob(configMap("a"))
	dir := r.files(map[string]string{"d.yaml": configMap("d")})
	root := r.tree(
		treeEntry{"a.yaml", filemode.Executable, file},
		treeEntry{"a.yaml", filemode.Regular, file},
		treeEntry{"..", filemode.Dir, dir},
		treeEntry{".git", filemode.Dir, dir},
		treeEntry{"GIT~1", filemode.Dir, dir},
		treeEntry{"back\\slash.yaml", filemode.Regular, file},
		treeEntry{"dir", filemode.Dir, dir},
		treeEntry{"line\nend.yaml", filemode.Regular, file},
		treeEntry{strings.Repeat("l", 300) + ".yaml", filemode.Regular, file},
		treeEntry{"latin\xe9.yaml", filemode.Regular, file},
		treeEntry{"link-in", filemode.Symlink, r.blob("dir")},
		treeEntry{"link-out", filemode.Symlink, r.blob("../../etc")},
		treeEntry{"link-text", filemode.Symlink, r.blob("docs/README.md")},
		treeEntry{"link.yaml", filemode.Symlink, r.blob("/etc/shadow")},
		// go-git takes every unknown mode for a submodule, as Git does.
		treeEntry{"pipe.yaml", filemode.FileMode(0o10000), file},
		treeEntry{"sub", filemode.Submodule, plumbing.NewHash("01")},
	)
	got := say(t, &Loader{}, r.at(root, ""))
	want := `..: is a name that Git forbids: the tree was not made by Git
.git: is a name that Git forbids: the tree was not made by Git
GIT~1: is a name that Git forbids: the tree was not made by Git
a.yaml: stands twice in its directory: the Git tree is damaged
a.yaml:1:1: ConfigMap default/a: is declared already at a.yaml:1
back\slash.yaml: has a name with a slash or a backslash
latin�.yaml: has a name that is not UTF-8
line·end.yaml: has a name with control characters
link-in: is a symbolic link, and links are not followed: put the manifests themselves here, or list the link in .mainstayignore
link-out: is a symbolic link, and links are not followed: put the manifests themselves here, or list the link in .mainstayignore
link.yaml: is a symbolic link, and links are not followed: put the manifest itself here, or list the link in .mainstayignore
` + strings.Repeat("l", 300) + `.yaml: has a name of more than 255 bytes
pipe.yaml: is a submodule, and submodules are not followed: copy its manifests into this repository, or list it in .mainstayignore
sub: is a submodule, and submodules are not followed: copy its manifests into this repository, or list it in .mainstayignore
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Ten levels of ten times the same tree are 10^10 paths in a kilobyte.
func TestTreeBomb(t *testing.T) {
	r := newRepo(t)
	dir := r.tree(treeEntry{"a.txt", filemode.Regular, r.blob("")})
	for range 10 {
		var entries []treeEntry
		for i := range 10 {
			entries = append(entries, treeEntry{fmt.Sprint("d", i), filemode.Dir, dir})
		}
		dir = r.tree(entries...)
	}
	start := processorTime(t)
	got := say(t, &Loader{}, r.at(dir, ""))
	if took := processorTime(t) - start; !strings.HasPrefix(got, ".: the tree holds more than 20000 names") || took > tooSlow {
		t.Errorf("%s after %v", got, took)
	}
}

func TestDeepTree(t *testing.T) {
	r := newRepo(t)
	dir := r.files(map[string]string{"a.yaml": configMap("a")})
	for range 40 {
		dir = r.tree(treeEntry{"d", filemode.Dir, dir})
	}
	want := strings.Repeat("d/", 32) + "d: directories are nested more than 32 deep\n"
	if got := say(t, &Loader{}, r.at(dir, "")); got != want {
		t.Errorf("got %s", got)
	}
}

// sizedStore claims a size for every object and refuses to hand one out that is larger than it may be.
type sizedStore struct {
	*memory.Storage
	sizes map[plumbing.Hash]int64
}

func (s sizedStore) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	if size, ok := s.sizes[h]; ok {
		return size, nil
	}
	return s.Storage.EncodedObjectSize(h)
}

func (s sizedStore) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if _, huge := s.sizes[h]; huge {
		panic("a huge object was unpacked")
	}
	return s.Storage.EncodedObject(t, h)
}

func TestHugeObjectsAreNeverUnpacked(t *testing.T) {
	r := newRepo(t)
	var bomb bytes.Buffer
	z := zlib.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 1<<20); err != nil || z.Close() != nil || bomb.Len() > 4096 {
		t.Fatalf("%d bytes: %v", bomb.Len(), err)
	}
	blob, dir := r.blob("big"), r.tree(treeEntry{"a.yaml", filemode.Regular, r.blob(configMap("a"))})
	root := r.tree(treeEntry{"big.yaml", filemode.Regular, blob}, treeEntry{"dir", filemode.Dir, dir})
	tree, err := Git(sizedStore{r.store, map[plumbing.Hash]int64{blob: 1<<20 + 1, dir: 300 << 20}}, r.commit(root), "")
	if err != nil {
		t.Fatal(err)
	}
	want := "big.yaml:1:1: is 1048577 bytes large; a manifest may be 1048576 at most\n" +
		"dir: the directory holds too many names: at most 20000 are read\n"
	if got := say(t, &Loader{}, tree); got != want {
		t.Errorf("got %s", got)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// countingStore counts what is read.
type countingStore struct {
	*memory.Storage
	reads *int
}

func (s countingStore) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	*s.reads++
	return s.Storage.EncodedObject(t, h)
}

func TestACommitThatTouchesThreeFilesDecodesThree(t *testing.T) {
	r := newRepo(t)
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("apps/%02d/app-%d.yaml", i%50, i)] = configMap(fmt.Sprint("c", i))
	}
	reads := 0
	store := countingStore{r.store, &reads}
	var l Loader
	load := func() Stats {
		before := l.Stats()
		reads = 0
		tree, err := Git(store, r.commit(r.files(files)), "")
		if err != nil {
			t.Fatal(err)
		}
		set, problems, err := l.Load(t.Context(), tree)
		if err != nil || len(problems) > 0 || len(set.Objects) != 2000 || set.Files != 2000 {
			t.Fatalf("%d objects, problems %v, err %v", len(set.Objects), problems, err)
		}
		return Stats{Parsed: l.Stats().Parsed - before.Parsed, Reused: l.Stats().Reused - before.Reused}
	}
	if got := load(); got.Parsed != 2000 {
		t.Errorf("cold: %+v", got)
	}
	for _, name := range []string{"apps/00/app-0.yaml", "apps/00/app-50.yaml", "apps/07/app-7.yaml"} {
		files[name] = strings.Replace(files[name], "a: b", "a: c", 1)
	}
	// The commit, the trees of /, apps, apps/00 and apps/07, and three blobs.
	if got := load(); got.Parsed != 3 || got.Reused != 1997 || reads != 8 {
		t.Errorf("warm: %+v, %d objects read", got, reads)
	}
	files["apps/01/moved.yaml"] = files["apps/00/app-100.yaml"]
	delete(files, "apps/00/app-100.yaml")
	if got := load(); got.Parsed != 0 {
		t.Errorf("moved: %+v", got)
	}
}

// brokenStore panics where go-git may on a corrupt pack.
type brokenStore struct{ *memory.Storage }

func (s brokenStore) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if t == plumbing.BlobObject {
		panic("index out of range")
	}
	return s.Storage.EncodedObject(t, h)
}

func TestADamagedRepositoryIsAnError(t *testing.T) {
	r := newRepo(t)
	tree, err := Git(brokenStore{r.store}, r.commit(r.files(map[string]string{"a.yaml": configMap("a")})), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, problems, err := new(Loader).Load(t.Context(), tree); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("problems %v, err %v", problems, err)
	}
}
