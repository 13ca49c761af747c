package state

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// versioned is the schema of a program that reads formats up to known, in which Pods came with level 2. The level that the
// cluster has reached is one more than there are Revisions.
func versioned(known int) *Schema {
	s := &Schema{}
	Register(s, object.KindFor[*corev1.ConfigMap]())
	Register(s, object.KindFor[*object.Revision]())
	if known > 1 {
		pods := object.KindFor[*corev1.Pod]()
		pods.Since = 2
		Register(s, pods)
	}
	SetLevels(s, Levels{Known: known, Reached: func(r Reader) int { return Len[*object.Revision](r) + 1 }})
	return s
}

// entryOf is what a transaction on s would write, and what it says itself.
func entryOf(s *Store, fn func(tx *Txn)) ([]byte, error) {
	tx := &Txn{base: s.View(), now: fixedClock()}
	fn(tx)
	return encodeBatch([][]byte{encodeTxn(tx.ops)}), tx.err
}

func raise(tx *Txn)  { tx.Create(build("Revision", "level2", "", "")) }
func addPod(tx *Txn) { tx.Create(build("Pod", "a", "", "")) }

func TestAKindIsNotWrittenBeforeItsLevel(t *testing.T) {
	s := New(versioned(2), fixedClock)
	if _, err := entryOf(s, addPod); !errors.Is(err, ErrLevel) {
		t.Errorf("before: %v", err)
	}
	entry, err := entryOf(s, func(tx *Txn) { raise(tx); addPod(tx) })
	if err != nil {
		t.Fatal(err)
	}
	if errs := s.Apply(1, entry); errs[0] != nil || Len[*corev1.Pod](s.View()) != 1 {
		t.Errorf("with the level: %v", errs)
	}
}

func TestAnOlderServerStopsOnceTheLevelIsRaised(t *testing.T) {
	entry, _ := entryOf(New(versioned(2), fixedClock), raise)
	s := New(versioned(1), fixedClock)
	before := s.View()
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, ErrNewer.Error()) || s.View() != before {
			t.Errorf("it went on, or says %q", text)
		}
	}()
	s.Apply(1, entry)
}

func TestSnapshotsOfANewerServerAreReadWhileTheLevelIsLow(t *testing.T) {
	newer := New(versioned(2), fixedClock)
	older := New(versioned(1), fixedClock)
	if err := older.Restore(bytes.NewReader(persisted(t, newer.View()))); err != nil {
		t.Errorf("nothing of the higher level was written, and yet: %v", err)
	}
	entry, _ := entryOf(newer, raise)
	newer.Apply(1, entry)
	if err := older.Restore(bytes.NewReader(persisted(t, newer.View()))); !errors.Is(err, ErrNewer) {
		t.Errorf("once the level was raised: %v", err)
	}
	entry, _ = entryOf(newer, addPod)
	newer.Apply(2, entry)
	again := New(versioned(2), fixedClock)
	if err := again.Restore(bytes.NewReader(persisted(t, newer.View()))); err != nil || Len[*corev1.Pod](again.View()) != 1 {
		t.Errorf("one that knows the kind: %v", err)
	}
}
