package state

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"hash/crc32"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mainstay-cluster/mainstay/object"
)

var record = flag.Bool("record-entries", false, "write golden entries that do not exist yet; existing ones are never rewritten")

// goldenEntries is a log of every entry type and every verb, with fixed uids and times.
func goldenEntries() [][]byte {
	s := New(testSchema(), fixedClock)
	var log [][]byte
	add := func(entry []byte) {
		log = append(log, entry)
		s.Apply(uint64(len(log)), entry)
	}
	txn := func(fn func(tx *Txn)) []byte {
		tx := &Txn{base: s.View(), now: fixedClock()}
		fn(tx)
		if tx.err != nil {
			panic(tx.err)
		}
		return encodeTxn(tx.ops)
	}
	add(sealEntry(typeTerm, nil))
	pod := build("Pod", "a", "n1", "starting").(*corev1.Pod)
	pod.UID = "pod-uid"
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("0.5"), corev1.ResourceMemory: resource.MustParse("1Gi")},
	}}}
	cm, rev := build("ConfigMap", "a", "x", ""), build("Revision", "a", "subject", "")
	cm.SetUID("cm-uid")
	rev.SetUID("rev-uid")
	add(encodeBatch([][]byte{
		txn(func(tx *Txn) { tx.Create(pod); tx.Create(cm) }),
		txn(func(tx *Txn) { tx.Create(rev) }),
	}))
	add(encodeBatch([][]byte{txn(func(tx *Txn) {
		stored, _ := Get[*corev1.Pod](tx, KeyOf(pod))
		moved := stored.DeepCopy()
		moved.Spec.NodeName, moved.Status.Message = "n2", "running"
		tx.Update(moved)
		tx.SetStatus(moved)
		config, _ := Get[*corev1.ConfigMap](tx, KeyOf(cm))
		tx.Require(config)
	})}))
	replace := txn(func(tx *Txn) {
		config, _ := Get[*corev1.ConfigMap](tx, KeyOf(cm))
		tx.Delete(config)
		again := build("ConfigMap", "a", "y", "")
		again.SetUID("cm-uid-2")
		tx.Create(again)
	})
	for entry := range stagedEntries(s.View().Index+1, replace, 40) {
		add(entry)
	}
	return log
}

// TestEntriesOfVersion1AreReadForEver: the bytes below were written once. What they mean may never change.
func TestEntriesOfVersion1AreReadForEver(t *testing.T) {
	const name = "testdata/entries/version1.hex"
	if *record {
		recordGolden(t, name)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := New(testSchema(), fixedClock)
	for i, line := range strings.Fields(string(raw)) {
		entry, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range s.Apply(uint64(i+1), entry) {
			if err != nil {
				t.Errorf("entry %d: %v", i+1, err)
			}
		}
	}
	pod, _ := Get[*corev1.Pod](s.View(), Key{"ns", "a"})
	cm, _ := Get[*corev1.ConfigMap](s.View(), Key{"ns", "a"})
	rev, _ := Get[*object.Revision](s.View(), Key{"", "a"})
	got := fmt.Sprintln(s.View().Version, pod.ResourceVersion, pod.UID, pod.Generation, pod.CreationTimestamp.Unix(), pod.Spec.NodeName,
		pod.Status.Message, pod.Spec.Containers[0].Resources.Requests.Cpu(), cm.ResourceVersion, cm.UID, cm.Data, rev.ResourceVersion, rev.UID, rev.Spec.Subject)
	const want = `7 5 pod-uid 2 1700000000 n2 running 500m 7 cm-uid-2 map[spec:y] 3 rev-uid subject` + "\n"
	if got != want {
		t.Errorf("state after the golden entries = %s, want %s", got, want)
	}
}

func recordGolden(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatalf("golden entries are written once: %v", err)
	}
	defer f.Close()
	for _, entry := range goldenEntries() {
		fmt.Fprintln(f, hex.EncodeToString(entry))
	}
}

func TestEntriesAreStillWrittenAsVersion1(t *testing.T) {
	raw, err := os.ReadFile("testdata/entries/version1.hex")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range goldenEntries() {
		got = append(got, hex.EncodeToString(entry))
	}
	if !slices.Equal(got, strings.Fields(string(raw))) {
		t.Error("entries are encoded differently than before: give them a new version and keep reading the old one")
	}
}

// Nothing that decides what an entry does may depend on when or where it is applied.
func TestApplyAndEntryAreDeterministic(t *testing.T) {
	for _, name := range []string{"apply.go", "entry.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if slices.Contains([]string{"time", "math/rand", "math/rand/v2", "crypto/rand", "os"}, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// FuzzEntry: bytes that are no entry end in an error or a panic of Apply's own making, never in a half-applied state.
func FuzzEntry(f *testing.F) {
	for _, entry := range goldenEntries() {
		f.Add(entry[0], entry[5], entry[6:])
	}
	f.Fuzz(func(t *testing.T, version, kind byte, body []byte) {
		entry := sealEntry(entryType(kind), body) // With a good checksum: chance alone would never get past it.
		entry[0] = version
		s := New(testSchema(), fixedClock)
		before := s.View()
		defer func() {
			if p := recover(); p != nil {
				if text, ok := p.(string); !ok || !strings.HasPrefix(text, "state: log index 1: ") {
					panic(p)
				}
				if s.View() != before {
					t.Error("an entry that was refused changed the state")
				}
			}
		}()
		s.Apply(1, entry)
		twin := New(testSchema(), fixedClock)
		twin.Apply(1, entry)
		if !bytes.Equal(persisted(t, s.View()), persisted(t, twin.View())) {
			t.Error("two stores differ")
		}
	})
}

// FuzzRestore: bytes that are no snapshot are refused and leave the state as it was.
func FuzzRestore(f *testing.F) {
	s := New(testSchema(), fixedClock)
	for i, entry := range goldenEntries() {
		s.Apply(uint64(i+1), entry)
		file := persisted(f, s.View())
		f.Add(file[:len(file)-4])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		file = binary.LittleEndian.AppendUint32(bytes.Clone(file), crc32.Checksum(file, castagnoli))
		restored := New(testSchema(), fixedClock)
		before := restored.View()
		if err := restored.Restore(bytes.NewReader(file)); err != nil {
			if restored.View() != before {
				t.Error("a snapshot that was refused changed the state")
			}
			return
		}
		persisted(t, restored.View())
	})
}

func TestEntriesWithAFlippedBitAreRefused(t *testing.T) {
	for _, entry := range goldenEntries() {
		for i := range entry {
			damaged := bytes.Clone(entry)
			damaged[i] ^= 0x10
			if _, _, err := openEntry(damaged); err == nil {
				t.Fatalf("a flipped bit in byte %d of %d went unnoticed", i, len(entry))
			}
		}
	}
}

func TestSnapshotsCutOrFlippedAnywhereAreRefused(t *testing.T) {
	s := New(testSchema(), fixedClock)
	for i, entry := range goldenEntries() {
		s.Apply(uint64(i+1), entry)
	}
	file := persisted(t, s.View())
	for i := range file {
		flipped := bytes.Clone(file)
		flipped[i] ^= 0x10
		for _, damaged := range [][]byte{flipped, file[:i]} {
			if New(testSchema(), fixedClock).Restore(bytes.NewReader(damaged)) == nil {
				t.Fatalf("damage at byte %d of %d went unnoticed", i, len(file))
			}
		}
	}
}
