package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func replicaSetOf(name string, replicas int32) *appsv1.ReplicaSet {
	set := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: set},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: set},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
			},
		},
	}
}

func podOf(name, app, node string, ready bool) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if ready {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return pod
}

// run runs controllers on a store until the function returns.
func run(t *testing.T, store *state.Store, during func(), controllers ...engine.Controller) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	metrics := engine.NewMetrics(prometheus.NewRegistry())
	ended := make(chan error)
	for _, c := range controllers {
		go func() { ended <- c.Run(ctx, store, slog.New(slog.DiscardHandler), metrics) }()
	}
	during()
	cancel()
	for range controllers {
		<-ended
	}
}

// Every write is needed: one for each ReplicaSet and each Pod, one status and one Event for each ReplicaSet.
func TestReplicaSetsWriteNothingInVain(t *testing.T) {
	const sets, each = 200, 10
	store := statetest.New(t)
	for i := range sets {
		statetest.Put(t, store, replicaSetOf(fmt.Sprint("rs", i), each))
	}
	run(t, store, func() {
		start := time.Now()
		if _, err := store.Wait(t.Context(), sets+sets*each+2*sets); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d Pods in %v", sets*each, time.Since(start))
	}, replicaset.Controller())
	if err := engine.Settle(t.Context(), store, []engine.Controller{replicaset.Controller()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, want := store.View().Version, state.Version(sets+sets*each+2*sets); got != want {
		t.Errorf("version %d, want %d", got, want)
	}
	if got := state.Len[*corev1.Pod](store.View()); got != sets*each {
		t.Errorf("%d Pods, want %d", got, sets*each)
	}
}

func TestReplicaSetCreatesInBursts(t *testing.T) {
	s := newSim(t, replicaset.Controller())
	s.put(replicaSetOf("big", 1200))
	for _, want := range []int{500, 1000, 1200, 1200} {
		s.reconcile("replicaset", state.Key{Namespace: "default", Name: "big"})
		if got := len(s.pods()); got != want {
			t.Fatalf("%d Pods, want %d", got, want)
		}
	}
}

func TestReplicaSetAdoptsReleasesAndReplaces(t *testing.T) {
	s := newSim(t, replicaset.Controller())
	declared := podOf("declared", "web", "n1", true)
	finished := podOf("finished", "web", "n1", false)
	finished.Status.Phase = corev1.PodFailed
	s.put(podOf("stray", "web", "n1", true), podOf("other", "db", "n1", true), declared, finished,
		&object.Source{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pods.declared"}}, replicaSetOf("web", 2))
	s.finish()
	var owned []string
	for _, pod := range s.pods() {
		if metav1.GetControllerOf(pod) != nil {
			owned = append(owned, pod.Name)
		}
	}
	if len(owned) != 2 || !slices.Contains(owned, "stray") {
		t.Fatalf("owns %v, want the stray Pod and a new one", owned)
	}
	statetest.Update(t, s.store, func(tx *state.Txn) {
		pod, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "stray"})
		pod = pod.DeepCopy()
		pod.Labels["app"] = "elsewhere"
		tx.Update(pod)
	})
	s.finish()
	stray, _ := state.Get[*corev1.Pod](s.store.View(), state.Key{Namespace: "default", Name: "stray"})
	if len(stray.OwnerReferences) != 0 || stray.DeletionTimestamp != nil {
		t.Errorf("a Pod that is no longer selected was not let go: %+v", stray.ObjectMeta)
	}
	if got := len(s.pods()); got != 6 {
		t.Errorf("%d Pods, want 6: the released one is replaced", got)
	}
}

// Each Pod of the table is worse than all after it.
func TestSurplusPodsGoInKubernetesOrder(t *testing.T) {
	at := func(minutes int) metav1.Time {
		return metav1.NewTime(time.Date(2030, 1, 1, 0, minutes, 0, 0, time.UTC))
	}
	order := []struct {
		name string
		make func(*corev1.Pod)
	}{
		{"unassigned", func(p *corev1.Pod) { p.Spec.NodeName = "" }},
		{"pending", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }},
		{"unknown", func(p *corev1.Pod) { p.Status.Phase = corev1.PodUnknown }},
		{"not-ready", func(p *corev1.Pod) { p.Status.Conditions = nil }},
		{"cheap", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-1"} }},
		{"crowded", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }},
		{"ready-late", func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = at(9) }},
		{"restarted", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }},
		{"young", func(p *corev1.Pod) { p.CreationTimestamp = at(4) }},
		{"best", func(*corev1.Pod) {}},
		{"dear", func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.PodDeletionCost: "5"}
			p.Spec.NodeName = "n2"
		}},
		{"dear-too", func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.PodDeletionCost: "6"}
			p.Spec.NodeName = "n2"
		}},
	}
	s := newSim(t, replicaset.Controller())
	for i, one := range order {
		pod := podOf(one.name, "web", fmt.Sprint("own", i), true)
		pod.CreationTimestamp = at(1)
		pod.Status.Conditions[0].LastTransitionTime = at(2)
		one.make(pod)
		s.put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("own", i)}}, pod)
	}
	s.put(replicaSetOf("web", int32(len(order))))
	key := state.Key{Namespace: "default", Name: "web"}
	for i, one := range order {
		s.reconcile("replicaset", key)
		statetest.Update(t, s.store, func(tx *state.Txn) {
			rs, _ := state.Get[*appsv1.ReplicaSet](tx, key)
			rs = rs.DeepCopy()
			*rs.Spec.Replicas = int32(len(order) - i - 1)
			tx.Update(rs)
		})
		s.reconcile("replicaset", key)
		pod, ok := state.Get[*corev1.Pod](s.store.View(), state.Key{Namespace: "default", Name: one.name})
		if ok && pod.DeletionTimestamp == nil {
			t.Fatalf("%s was to go next: %v", one.name, s.describe())
		}
	}
}

func TestPodOnANodeIsDeletedGracefully(t *testing.T) {
	s := newSim(t, replicaset.Controller())
	graceful, unbound := podOf("bound", "web", "n1", true), podOf("unbound", "web", "", false)
	grace := int64(7)
	graceful.Spec.TerminationGracePeriodSeconds = &grace
	s.put(graceful, unbound, replicaSetOf("web", 0))
	s.reconcile("replicaset", state.Key{Namespace: "default", Name: "web"})
	left := s.pods()
	if len(left) != 1 || left[0].Name != "bound" {
		t.Fatalf("left: %v", s.describe())
	}
	if at := left[0].DeletionTimestamp; at == nil || !at.Time.Equal(s.now.Add(7*time.Second)) || *left[0].DeletionGracePeriodSeconds != 7 {
		t.Errorf("deleted at %v with %v seconds of grace", at, left[0].DeletionGracePeriodSeconds)
	}
}

func TestAvailabilityWaitsForMinReadySeconds(t *testing.T) {
	s := newSim(t, replicaset.Controller())
	rs := replicaSetOf("web", 1)
	rs.Spec.MinReadySeconds = 10
	s.put(rs)
	s.finish()
	status := func() (ready, available int32) {
		st := s.replicaSets()[0].Status
		return st.ReadyReplicas, st.AvailableReplicas
	}
	if ready, available := status(); ready != 1 || available != 0 {
		t.Errorf("%d ready, %d available; want 1, 0", ready, available)
	}
	var again time.Duration
	statetest.Update(t, s.store, func(tx *state.Txn) {
		again, _ = replicaset.Controller().Reconcile(tx, state.KeyOf(rs), s.now.Add(4*time.Second))
	})
	if again != 6*time.Second {
		t.Errorf("wants to look again in %v, want 6s", again)
	}
	s.now = s.now.Add(10 * time.Second)
	s.finish()
	if ready, available := status(); ready != 1 || available != 1 {
		t.Errorf("%d ready, %d available; want 1, 1", ready, available)
	}
}
