package pki

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var record = flag.Bool("record-files", false, "write golden files that do not exist yet; existing ones are never rewritten")

// goldenTime is when the certificates in testdata were made; they are for these tests alone, and good for nothing else.
var goldenTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func goldenClock() time.Time { return goldenTime }

const golden = "testdata/authority"

// Each directory in testdata was written once, by a version that kept the authority so. "apart" is from before it was one file,
// "rotating" is of the time between a rotation's begin and its end. What they mean may never change.
func TestAuthoritiesOfEveryFormAreReadForEver(t *testing.T) {
	if *record {
		recordAuthorities(t)
	}
	for _, form := range []string{"apart", "single", "rotating"} {
		t.Run(form, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(golden, form))); err != nil {
				t.Fatal(err)
			}
			a, err := Open(dir, goldenClock)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(golden, form+".mark"))
			if err != nil || a.Mark() != strings.TrimSpace(string(want)) {
				t.Errorf("it is to be trusted as %s, want %s, %v", a.Mark(), want, err)
			}
			if rotating := a.Former() != ""; rotating != (form == "rotating") {
				t.Errorf("rotating: %t", rotating)
			}
			if err := a.now.Load().keep(dir); err != nil {
				t.Fatal(err)
			}
			sameFile(t, filepath.Join(dir, keptFile), filepath.Join(golden, form, keptFile))
			if _, _, err := a.Issue(Identity{Name: "n1", Group: GroupNodes}); err != nil {
				t.Errorf("its key does not sign: %v", err)
			}
		})
	}
}

// sameFile expects that a file that is read is still written so. One that is not written so any more has no twin.
func sameFile(t *testing.T, path, twin string) {
	t.Helper()
	want, err := os.ReadFile(twin)
	if os.IsNotExist(err) {
		return
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is written otherwise now: keep reading the form that it had: %v", filepath.Base(path), err)
	}
}

func TestCertificatesOfNodesAreReadForEver(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	held, err := OpenHeld(dir)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(golden, "single.mark"))
	if err != nil || held.Name() != "n1" || held.Mark() != strings.TrimSpace(string(mark)) {
		t.Errorf("node %q trusts %s, want n1 and %s, %v", held.Name(), held.Mark(), mark, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(dir, kept, kept, held.caPEM); err != nil {
		t.Fatal(err)
	}
	sameFile(t, filepath.Join(dir, authorityFile), filepath.Join("testdata/node", authorityFile))
}

// recordAuthorities writes what the tests above read.
func recordAuthorities(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("testdata"); err == nil {
		t.Fatal("golden files are written once")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := create(filepath.Join(golden, "single"), goldenClock)
	must(err)
	must(os.WriteFile(filepath.Join(golden, "single.mark"), []byte(a.Mark()+"\n"), 0o644))
	request, key, err := Request()
	must(err)
	cert, err := a.Sign(request, Identity{Name: "n1", Group: GroupNodes})
	must(err)
	_, err = Hold("testdata/node", cert, key, a.TrustPEM())
	must(err)
	must(os.CopyFS(filepath.Join(golden, "rotating"), os.DirFS(filepath.Join(golden, "single"))))
	a, err = Open(filepath.Join(golden, "rotating"), goldenClock)
	must(err)
	first, firstKey, err := a.First()
	must(err)
	_, err = a.Adopt(first, firstKey)
	must(err)
	next, nextKey, err := a.Next()
	must(err)
	_, err = a.Adopt(next, nextKey)
	must(err)
	must(os.WriteFile(filepath.Join(golden, "rotating.mark"), []byte(a.Mark()+"\n"), 0o644))
	apart, err := newMaterial(goldenTime)
	must(err)
	plain, err := encodeKey(apart.key)
	must(err)
	must(os.MkdirAll(filepath.Join(golden, "apart"), 0o700))
	must(os.WriteFile(filepath.Join(golden, "apart", "ca.crt"), apart.certPEM(), 0o600))
	must(os.WriteFile(filepath.Join(golden, "apart", "ca.key"), plain, 0o600))
	must(os.WriteFile(filepath.Join(golden, "apart.mark"), []byte(newAuthority("", apart, goldenClock).Mark()+"\n"), 0o644))
}
