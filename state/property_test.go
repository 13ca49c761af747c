package state

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/object"
)

var byNode = NewIndex("node", func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })

// testSchema has a kind without a status, one with a status and an index, and one of our own, which travels as JSON.
func testSchema() *Schema {
	s := &Schema{}
	Register(s, object.KindFor[*corev1.ConfigMap]())
	Register(s, object.KindFor[*corev1.Pod]())
	Register(s, object.KindFor[*object.Revision]())
	AddIndex(s, byNode)
	return s
}

func fixedClock() time.Time { return time.Unix(1_700_000_000, 0) }

// truth is what a naive map says of one object.
type truth struct {
	version     Version
	uid         types.UID
	spec, state string
}

// machine runs random transactions against the store and against a map.
type machine struct {
	store   *Store
	entries [][]byte
	history []*Snapshot              // by index, the state before each entry
	truths  map[string]truth         // by kind and name
	changes map[string][]naiveChange // by kind
	next    int
}

type naiveChange struct {
	version Version
	name    string
	deleted bool
}

func newMachine() *machine {
	m := &machine{store: New(testSchema(), fixedClock), truths: map[string]truth{}, changes: map[string][]naiveChange{}}
	return m
}

// build makes an object of kind whose spec and status are the given words.
func build(kind, name, spec, status string) object.Object {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: name}
	switch kind {
	case "ConfigMap":
		return &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"spec": spec}}
	case "Pod":
		return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: spec}, Status: corev1.PodStatus{Message: status}}
	default:
		meta.Namespace = ""
		return &object.Revision{ObjectMeta: meta, Spec: object.RevisionSpec{Subject: spec}, Status: object.RevisionStatus{Message: status}}
	}
}

// contents is build's inverse.
func contents(o object.Object) (spec, status string) {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		return o.Data["spec"], ""
	case *corev1.Pod:
		return o.Spec.NodeName, o.Status.Message
	case *object.Revision:
		return o.Spec.Subject, o.Status.Message
	}
	panic("unknown kind")
}

var (
	testKinds = []string{"ConfigMap", "Pod", "Revision"}
	testNames = []string{"a", "b", "c", "d"}
	testWords = []string{"", "x", "y"}
)

func kindNamed(name string) object.Kind {
	k, _ := object.ByName(name)
	return k
}

// attempt is one transaction, and what the map says should come of it.
type attempt struct {
	m       *machine
	tx      *Txn
	after   map[string]truth
	changes []naiveChange
	kinds   []string // of changes
	version Version
	valid   bool // every precondition holds
}

// transaction draws one transaction on a snapshot that may be old, applies it, and checks that it took effect exactly if
// every precondition holds in the map.
func (m *machine) transaction(t *rapid.T) {
	m.history = append(m.history, m.store.View())
	age := rapid.IntRange(0, min(3, len(m.history)-1)).Draw(t, "age of the snapshot")
	a := &attempt{
		m: m, tx: &Txn{base: m.history[len(m.history)-1-age], now: fixedClock()},
		after: maps.Clone(m.truths), version: m.store.View().Version, valid: true,
	}
	for range rapid.IntRange(1, 5).Draw(t, "operations") {
		kind, name := rapid.SampledFrom(testKinds).Draw(t, "kind"), rapid.SampledFrom(testNames).Draw(t, "name")
		o := build(kind, name, rapid.SampledFrom(testWords).Draw(t, "spec"), rapid.SampledFrom(testWords).Draw(t, "status"))
		a.operation(rapid.SampledFrom([]string{"create", "update", "status", "delete", "require"}).Draw(t, "verb"), kind, o)
	}
	if a.tx.err != nil {
		t.Fatalf("transaction on a consistent snapshot: %v", a.tx.err)
	}
	entry := encodeBatch([][]byte{encodeTxn(a.tx.ops)})
	m.entries = append(m.entries, entry)
	err := m.store.Apply(uint64(len(m.entries)), entry)[0]
	if a.valid != (err == nil) || (err != nil && !errors.Is(err, ErrConflict)) {
		t.Fatalf("apply = %v, want success: %v", err, a.valid)
	}
	if err == nil {
		m.truths = a.after
		for i, c := range a.changes {
			m.changes[a.kinds[i]] = append(m.changes[a.kinds[i]], c)
		}
	}
}

// operation does what verb says with o, if the transaction's own view allows it.
func (a *attempt) operation(verb, kind string, o object.Object) {
	seen, found := GetKind(a.tx, kindNamed(kind), KeyOf(o))
	if found == (verb == "create") || (verb == "status" && kind == "ConfigMap") {
		return
	}
	was, exists := a.after[kind+o.GetName()]
	now := was
	now.spec, now.state = contents(o)
	same := found && exists && seen.GetUID() == was.uid
	if found {
		o.SetResourceVersion(seen.GetResourceVersion())
	}
	before := len(a.tx.ops)
	switch verb {
	case "create":
		a.m.next++
		now.uid = types.UID("uid" + strconv.Itoa(a.m.next))
		o.SetUID(now.uid)
		a.tx.Create(o)
		a.valid = a.valid && !exists
	case "update":
		a.tx.Update(o)
		now.state = was.state
	case "status":
		o.SetUID(seen.GetUID())
		a.tx.SetStatus(o)
		now.spec = was.spec
	case "delete":
		a.tx.Delete(o)
	case "require":
		a.tx.Require(o)
	}
	if len(a.tx.ops) == before {
		return // Equal content writes nothing.
	}
	switch verb {
	case "update", "delete", "require":
		a.valid = a.valid && same && fresh(a.tx, a.m.store.View(), kind, seen)
	case "status":
		a.valid = a.valid && same
	}
	a.expect(verb, kind, o.GetName(), now)
}

func (a *attempt) expect(verb, kind, name string, now truth) {
	if verb == "require" {
		return
	}
	a.version++
	now.version = a.version
	a.after[kind+name] = now
	if verb == "delete" {
		delete(a.after, kind+name)
	}
	a.changes, a.kinds = append(a.changes, naiveChange{a.version, name, verb == "delete"}), append(a.kinds, kind)
}

// fresh says whether what the transaction sees was made by it, or is in now at the version it has in the transaction's base.
func fresh(tx *Txn, now *Snapshot, kind string, seen object.Object) bool {
	began, ok := GetKind(tx.base, kindNamed(kind), KeyOf(seen))
	if !ok || began.GetUID() != seen.GetUID() {
		return true
	}
	current, ok := GetKind(now, kindNamed(kind), KeyOf(seen))
	return ok && current.GetResourceVersion() == began.GetResourceVersion()
}

// check compares the store with the map.
func (m *machine) check(t *rapid.T) {
	total := 0
	for _, kind := range testKinds {
		for o := range ListKind(m.store.View(), kindNamed(kind), "") {
			total++
			want, ok := m.truths[kind+o.GetName()]
			spec, status := contents(o)
			got := truth{uid: o.GetUID(), spec: spec, state: status}
			got.version = versionOf(o)
			if !ok || got != want {
				t.Fatalf("%s %s = %+v, want %+v (%v)", kind, o.GetName(), got, want, ok)
			}
		}
	}
	if total != len(m.truths) {
		t.Fatalf("%d objects, want %d", total, len(m.truths))
	}
	for _, node := range testWords {
		var got, want []string
		for p := range ListBy(m.store.View(), byNode, node) {
			got = append(got, p.Name)
		}
		for _, name := range testNames {
			if tr, ok := m.truths["Pod"+name]; ok && tr.spec == node {
				want = append(want, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pods on %q = %v, want %v", node, got, want)
		}
	}
}

func versionOf(o object.Object) Version {
	v, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return Version(v)
}

func persisted(t interface{ Fatal(...any) }, s *Snapshot) []byte {
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRandomTransactionsAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		for range rapid.IntRange(1, 40).Draw(t, "transactions") {
			m.transaction(t)
			m.check(t)
		}
		m.checkReplicas(t)
		m.checkFeeds(t)
	})
}

// checkReplicas: a store fed the same entries, and one that starts from any snapshot and is fed the rest, are the same.
func (m *machine) checkReplicas(t *rapid.T) {
	want := persisted(t, m.store.View())
	replica := New(testSchema(), time.Now)
	k := rapid.IntRange(0, len(m.entries)).Draw(t, "snapshot at")
	late := New(testSchema(), time.Now)
	for i, entry := range m.entries {
		if i == k {
			if err := late.Restore(bytes.NewReader(persisted(t, replica.View()))); err != nil {
				t.Fatal(err)
			}
		}
		replica.Apply(uint64(i+1), entry)
		if i >= k {
			late.Apply(uint64(i+1), entry)
		}
	}
	if !bytes.Equal(persisted(t, replica.View()), want) {
		t.Fatal("two stores fed the same entries differ")
	}
	if k < len(m.entries) && !bytes.Equal(persisted(t, late.View()), want) {
		t.Fatalf("snapshot at %d and the rest differ from all", k)
	}
}

// checkFeeds: a reader that resumes after any version sees every later change once, in order.
func (m *machine) checkFeeds(t *rapid.T) {
	for _, kind := range testKinds {
		for after := Version(0); after <= m.store.View().Version; after++ {
			var want []naiveChange
			for _, c := range m.changes[kind] {
				if c.version > after {
					want = append(want, c)
				}
			}
			if got := drain(ChangesOf(m.store, kindNamed(kind), after)); !slices.Equal(got, want) {
				t.Fatalf("changes of %s after %d = %v, want %v", kind, after, got, want)
			}
		}
	}
}

func drain(f *Feed[object.Object]) []naiveChange {
	var got []naiveChange
	buf := make([]Change[object.Object], 3)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		n, err := f.Next(ended, buf)
		if err != nil {
			return got
		}
		for _, c := range buf[:n] {
			o := c.New
			if o == nil {
				o = c.Old
			}
			got = append(got, naiveChange{c.Version, o.GetName(), c.New == nil})
		}
	}
}
