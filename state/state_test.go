package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	go func() {
		for i := range 100 {
			statetest.Update(t, s, func(tx *state.Txn) { tx.Create(configMap(fmt.Sprint("cm", i), "")) })
		}
	}()
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
