package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

var authority = Authority{Cert: []byte("a certificate"), Key: []byte("a key")}

// small is a store of a cluster with one revision and one Secret.
func small(t *testing.T) *state.Snapshot {
	t.Helper()
	cluster := &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Status: object.ClusterStatus{Store: "s1", Revision: "abc"}}
	rev := &object.Revision{ObjectMeta: metav1.ObjectMeta{Name: "abc"}, Spec: object.RevisionSpec{Commit: "abcdef"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"k": []byte("v")}}
	return statetest.New(t, cluster, rev, secret).View()
}

func written(t *testing.T) []byte {
	t.Helper()
	snap := small(t)
	h, err := Describe(snap, "v1", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := Write(&file, h, authority, snap); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func read(file []byte) (*Backup, error) { return Read(bytes.NewReader(file), int64(len(file))) }

// sealed gives a body the length and the digest that it should have.
func sealed(body []byte) []byte {
	body = binary.LittleEndian.AppendUint64(bytes.Clone(body), uint64(len(body)))
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	b, err := read(written(t))
	if err != nil {
		t.Fatal(err)
	}
	want := Header{Mainstay: "v1", Created: time.Unix(1e9, 0).UTC(), Cluster: "prod", Store: "s1", Version: b.Snapshot.Version, Index: b.Snapshot.Index, Revision: "abc", Commit: "abcdef"}
	if diff := cmp.Diff(want, b.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(authority, b.Authority); diff != "" {
		t.Errorf("authority (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"Cluster": 1, "Revision": 1, "Secret": 1}, b.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	secret, ok := state.Get[*corev1.Secret](b.Snapshot, state.Key{Namespace: "default", Name: "s"})
	if !ok || string(secret.Data["k"]) != "v" {
		t.Errorf("the Secret = %v, want its value", secret)
	}
}

func TestNoChangedByteIsOverlooked(t *testing.T) {
	file := written(t)
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 0x10
		if _, err := read(changed); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrCut) {
			t.Fatalf("byte %d of %d is another: %v", i, len(file), err)
		}
	}
}

func TestNoMissingEndIsOverlooked(t *testing.T) {
	file := written(t)
	for n := 1; n < len(file); n++ {
		if _, err := read(file[:n]); !errors.Is(err, ErrCut) {
			t.Fatalf("%d of %d bytes: %v, want ErrCut", n, len(file), err)
		}
	}
}

func TestFilesThatAreNoGoodAreToldApart(t *testing.T) {
	file := written(t)
	newer := bytes.Clone(file[:len(file)-trailer])
	newer[len(magic)] = format + 1
	strange := append([]byte(magic), format, 0xff, 0xff, 0xff, 0xff, 0x7f) // a header of 34 GB
	for name, tc := range map[string]struct {
		file []byte
		want error
	}{
		"empty":                      {nil, ErrForeign},
		"another program's":          {[]byte(strings.Repeat("PK\x03\x04", 100)), ErrForeign},
		"something added to its end": {append(bytes.Clone(file), '\n'), ErrCut},
		"of a newer format":          {sealed(newer), ErrNewer},
		"with a strange length":      {sealed(strange), ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := read(tc.file); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestThereMustBeACluster(t *testing.T) {
	if _, err := Describe(statetest.New(t).View(), "v1", time.Unix(1e9, 0)); err == nil {
		t.Error("an empty store was described")
	}
}
