package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": value}}
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	s := statetest.New(t, configMap("counter", "0"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for {
				_, err := s.Update(t.Context(), func(tx *state.Txn) error {
					cm, _ := state.Get[*corev1.ConfigMap](tx, state.Key{Namespace: "default", Name: "counter"})
					n, _ := strconv.Atoi(cm.Data["v"])
					cm = cm.DeepCopy()
					cm.Data["v"] = strconv.Itoa(n + 1)
					tx.Update(cm)
					return nil
				})
				if !errors.Is(err, state.ErrConflict) {
					return
				}
			}
		})
	}
	wg.Wait()
	cm, _ := state.Get[*corev1.ConfigMap](s.View(), state.Key{Namespace: "default", Name: "counter"})
	if cm.Data["v"] != "50" || s.View().Version != 51 {
		t.Errorf("counter = %s at version %d, want 50 at 51", cm.Data["v"], s.View().Version)
	}
}

// However they came into the store: the specs of a Deployment's Pods are one.
func TestNeighboursShareWhatIsEqual(t *testing.T) {
	s := statetest.New(t, readyTwin("web-1"), readyTwin("web-2"))
	var file bytes.Buffer
	if err := s.View().Persist(&file); err != nil {
		t.Fatal(err)
	}
	restored := state.New(tables.Schema(), time.Now)
	if err := restored.Restore(&file); err != nil {
		t.Fatal(err)
	}
	for how, view := range map[string]*state.Snapshot{"applied": s.View(), "restored": restored.View()} {
		a, _ := state.Get[*corev1.Pod](view, state.Key{Namespace: "default", Name: "web-1"})
		b, _ := state.Get[*corev1.Pod](view, state.Key{Namespace: "default", Name: "web-2"})
		if &a.Spec.Containers[0] != &b.Spec.Containers[0] || &a.Status.Conditions[0] != &b.Status.Conditions[0] {
			t.Errorf("%s: two copies of what two Pods have in common", how)
		}
	}
}

func readyTwin(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "hello:1.0"}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func TestTransactionLargerThanAnEntryIsAtomicAndSurvivesASnapshot(t *testing.T) {
	s := statetest.New(t)
	big := string(bytes.Repeat([]byte("x"), 100_000))
	statetest.Update(t, s, func(tx *state.Txn) {
		for i := range 30 {
			tx.Create(configMap(fmt.Sprint("cm", i), big))
		}
	})
	if got := state.Len[*corev1.ConfigMap](s.View()); got != 30 {
		t.Fatalf("%d objects, want 30", got)
	}
	var file bytes.Buffer
	if err := s.View().Persist(&file); err != nil {
		t.Fatal(err)
	}
	restored := state.New(tables.Schema(), time.Now)
	if err := restored.Restore(&file); err != nil {
		t.Fatal(err)
	}
	if got, want := restored.View().Version, s.View().Version; got != want {
		t.Errorf("restored version %d, want %d", got, want)
	}
	if got := state.Len[*corev1.ConfigMap](restored.View()); got != 30 {
		t.Errorf("%d objects restored, want 30", got)
	}
}

func TestFeedSeesEveryChangeOnce(t *testing.T) {
	s := statetest.New(t)
	feed := state.Changes[*corev1.ConfigMap](s, 0)
	var writer sync.WaitGroup
	defer writer.Wait() // its last change is seen before it returns
	writer.Go(func() {
		for i := range 100 {
			statetest.Update(t, s, func(tx *state.Txn) { tx.Create(configMap(fmt.Sprint("cm", i), "")) })
		}
	})
	buf := make([]state.Change[*corev1.ConfigMap], 7)
	for want := state.Version(1); want <= 100; {
		n, err := feed.Next(t.Context(), buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range buf[:n] {
			if c.Version != want || c.New == nil || c.Old != nil {
				t.Fatalf("change %+v, want a create at %d", c, want)
			}
			want++
		}
	}
}

// Who follows several feeds takes from each what there is up to a snapshot that was waited for: a change that comes to its feed
// later than the snapshot would be taken for one of the next, and who was told of this one would never hear of it.
func TestWhoWaitedForASnapshotFindsItsChangesInTheFeeds(t *testing.T) {
	const last = 3000
	s := statetest.New(t)
	feed := state.Changes[*corev1.ConfigMap](s, 0)
	var writer sync.WaitGroup
	defer writer.Wait() // its last change is seen before it returns
	writer.Go(func() {
		for i := range last {
			statetest.Update(t, s, func(tx *state.Txn) { tx.Create(configMap(fmt.Sprint("cm", i), "")) })
		}
	})
	buf := make([]state.Change[*corev1.ConfigMap], last)
	for seen := state.Version(0); seen < last; {
		snap, err := s.Wait(t.Context(), seen+1)
		if err != nil {
			t.Fatal(err)
		}
		n, err := feed.Poll(buf)
		if err != nil || n == 0 || buf[n-1].Version < snap.Version {
			t.Fatalf("the snapshot is of version %d, the feed has %d changes after version %d (%v)", snap.Version, n, seen, err)
		}
		seen = buf[n-1].Version
	}
}

func TestUpdateWithoutACommitterIsRefused(t *testing.T) {
	s := state.New(tables.Schema(), time.Now)
	_, err := s.Update(context.Background(), func(tx *state.Txn) error {
		tx.Create(configMap("a", ""))
		return nil
	})
	if !errors.Is(err, state.ErrNotLeader) {
		t.Errorf("err = %v, want ErrNotLeader", err)
	}
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
}

func TestStatusOfAnObjectThatWasReplacedIsRefused(t *testing.T) {
	s := statetest.New(t, pod("a", "n1"))
	first, _ := state.Get[*corev1.Pod](s.View(), state.Key{Namespace: "default", Name: "a"})
	replaced := false
	_, err := s.Update(t.Context(), func(tx *state.Txn) error {
		late := first.DeepCopy()
		late.Status.Message = "from the first"
		tx.SetStatus(late)
		if !replaced { // Between this transaction's snapshot and its entry.
			replaced = true
			statetest.Update(t, s, func(tx *state.Txn) { tx.Delete(first); tx.Create(pod("a", "n2")) })
		}
		return nil
	})
	if !errors.Is(err, state.ErrConflict) {
		t.Errorf("err = %v, want ErrConflict", err)
	}
	if second, _ := state.Get[*corev1.Pod](s.View(), state.Key{Namespace: "default", Name: "a"}); second.Status.Message != "" {
		t.Error("the second object has the first one's status")
	}
}

func TestEqualContentWritesNothing(t *testing.T) {
	s := statetest.New(t, pod("a", "n1"), configMap("a", "x"))
	before := s.View().Version
	statetest.Update(t, s, func(tx *state.Txn) {
		p, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "a"})
		tx.Update(p.DeepCopy())
		tx.SetStatus(p.DeepCopy())
		cm, _ := state.Get[*corev1.ConfigMap](tx, state.Key{Namespace: "default", Name: "a"})
		tx.Update(cm.DeepCopy())
	})
	if got := s.View().Version; got != before {
		t.Errorf("version %d after writing what is there, want %d", got, before)
	}
}

func TestUpdateKeepsStatusAndRaisesTheGenerationForASpecAlone(t *testing.T) {
	running := pod("a", "n1")
	running.Status.Message = "running"
	s := statetest.New(t, running)
	key := state.Key{Namespace: "default", Name: "a"}
	change := func(edit func(*corev1.Pod)) *corev1.Pod {
		statetest.Update(t, s, func(tx *state.Txn) {
			p, _ := state.Get[*corev1.Pod](tx, key)
			p = p.DeepCopy()
			edit(p)
			tx.Update(p)
		})
		p, _ := state.Get[*corev1.Pod](s.View(), key)
		return p
	}
	if p := change(func(p *corev1.Pod) { p.Labels, p.Status = map[string]string{"a": "b"}, corev1.PodStatus{} }); p.Generation != 1 || p.Status.Message != "running" {
		t.Errorf("generation %d, status %q after a label, want 1 and running", p.Generation, p.Status.Message)
	}
	if p := change(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }); p.Generation != 2 || p.Status.Message != "running" {
		t.Errorf("generation %d, status %q after a spec, want 2 and running", p.Generation, p.Status.Message)
	}
}

func TestChangingASharedObjectIsFound(t *testing.T) {
	s := state.New(tables.Schema(), time.Now)
	var found []error
	check := state.Audited(s, func(err error) { found = append(found, err) })
	log := &statetest.Log{Store: s}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Commit(ctx, log) }()
	if err := s.Leading(ctx); err != nil {
		t.Fatal(err)
	}
	statetest.Put(t, s, configMap("a", "x"), configMap("b", "y"))
	cm, _ := state.Get[*corev1.ConfigMap](s.View(), state.Key{Namespace: "default", Name: "a"})
	cm.Data["v"] = "changed in place"
	cancel()
	<-done
	if check(); len(found) != 1 {
		t.Errorf("%d shared objects found changed, want 1: %v", len(found), found)
	}
}

func TestReadersThatFellBehindAreToldSo(t *testing.T) {
	now := time.Now()
	s := statetest.Run(t, state.New(tables.Schema(), func() time.Time { return now }))
	feed := state.Changes[*corev1.ConfigMap](s, 0)
	for range 3 { // A ring of 1024 does not grow for changes that are older than it must keep.
		now = now.Add(2 * time.Minute)
		statetest.Update(t, s, func(tx *state.Txn) {
			for i := range 500 {
				tx.Create(configMap(fmt.Sprint(now.Unix(), "-", i), ""))
			}
		})
	}
	buf := make([]state.Change[*corev1.ConfigMap], 1)
	if _, err := feed.Next(t.Context(), buf); !errors.Is(err, state.ErrCompacted) {
		t.Errorf("err = %v, want ErrCompacted", err)
	}
	if n, err := state.Changes[*corev1.ConfigMap](s, 1499).Next(t.Context(), buf); n != 1 || err != nil {
		t.Errorf("the newest change: %d, %v", n, err)
	}
}

// Encoding caches the text of a Quantity in the object. Stored objects are encoded by many at a time: by snapshots, by
// watches, by transactions that compare. Run with -race.
func TestStoredQuantitiesAreEncodedConcurrently(t *testing.T) {
	p := pod("a", "n1")
	for _, text := range []string{"1.5Gi", "0.1", "1E30", "3", "100e3", "123456789012345678901234567890", "0", "1u", "-2.5"} {
		q := resource.MustParse(text)
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &q}}})
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{
			ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: q},
		}}}})
	}
	s := state.New(tables.Schema(), time.Now)
	log := &statetest.Log{Store: s} // Without the audit, which encodes first.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Commit(ctx, log) }()
	if err := s.Leading(ctx); err != nil {
		t.Fatal(err)
	}
	statetest.Put(t, s, p)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			stored, _ := state.Get[*corev1.Pod](s.View(), state.Key{Namespace: "default", Name: "a"})
			if _, err := json.Marshal(stored); err != nil {
				t.Error(err)
			}
			if err := s.View().Persist(io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	<-done
}

func TestFeedsSayCompactedAfterARestore(t *testing.T) {
	s := statetest.New(t, configMap("a", ""))
	var file bytes.Buffer
	if err := s.View().Persist(&file); err != nil {
		t.Fatal(err)
	}
	restored := state.New(tables.Schema(), time.Now)
	before := state.Changes[*corev1.ConfigMap](restored, 0)
	if err := restored.Restore(&file); err != nil {
		t.Fatal(err)
	}
	buf := make([]state.Change[*corev1.ConfigMap], 1)
	for name, feed := range map[string]*state.Feed[*corev1.ConfigMap]{"from before": before, "from the beginning": state.Changes[*corev1.ConfigMap](restored, 0)} {
		if _, err := feed.Next(t.Context(), buf); !errors.Is(err, state.ErrCompacted) {
			t.Errorf("%s: %v, want ErrCompacted", name, err)
		}
	}
}

// A ReplicaSet of tens of thousands draws some names that are taken: it draws others, instead of beginning anew for ever.
func TestGeneratedNamesAreFree(t *testing.T) {
	const n = 20_000 // of which 14 would be drawn twice, on average
	s := statetest.New(t)
	statetest.Update(t, s, func(tx *state.Txn) {
		for range n {
			o := configMap("", "")
			o.GenerateName = "web-"
			tx.Create(o)
		}
	})
	if got := state.Len[*corev1.ConfigMap](s.View()); got != n {
		t.Errorf("%d of %d were created", got, n)
	}
}
