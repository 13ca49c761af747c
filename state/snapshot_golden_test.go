package state

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"
)

const goldenSnapshot = "testdata/snapshots/format1.hex"

// TestSnapshotsOfFormat1AreReadForEver: the bytes in testdata were written once. What they mean may never change.
func TestSnapshotsOfFormat1AreReadForEver(t *testing.T) {
	want := New(testSchema(), fixedClock)
	for i, entry := range goldenEntries() {
		want.Apply(uint64(i+1), entry)
	}
	if *record {
		recordSnapshot(t, want)
	}
	got := New(testSchema(), fixedClock)
	if err := got.Restore(bytes.NewReader(readSnapshot(t))); err != nil {
		t.Fatal(err)
	}
	var before, after bytes.Buffer
	if err := want.View().Persist(&before); err != nil {
		t.Fatal(err)
	}
	if err := got.View().Persist(&after); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.Bytes(), after.Bytes()) || !bytes.Equal(before.Bytes(), readSnapshot(t)) {
		t.Error("the state that was restored is not the one that was saved, or is written otherwise now")
	}
}

// Another format, or a kind that this program does not know, stops a server and says why: passing over either would lose it.
func TestSnapshotsOfANewerVersionAreRefused(t *testing.T) {
	format := bytes.Clone(readSnapshot(t))
	format[len(snapshotMagic)] = snapshotFormat + 1
	kind := bytes.Replace(readSnapshot(t), []byte("/v1/ConfigMap"), []byte("/v1/ConfigMop"), 1)
	for name, raw := range map[string][]byte{"format": format, "kind": kind} {
		binary.LittleEndian.PutUint32(raw[len(raw)-4:], crc32.Checksum(raw[:len(raw)-4], castagnoli))
		err := New(testSchema(), fixedClock).Restore(bytes.NewReader(raw))
		if err == nil || !strings.Contains(err.Error(), "written by a newer Mainstay") {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func readSnapshot(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func recordSnapshot(t *testing.T, s *Store) {
	t.Helper()
	f, err := os.OpenFile(goldenSnapshot, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatalf("golden snapshots are written once: %v", err)
	}
	defer f.Close()
	var raw bytes.Buffer
	if err := s.View().Persist(&raw); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, hex.EncodeToString(raw.Bytes()))
}
