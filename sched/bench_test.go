package sched

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// benchmarkCluster fills a store with nodes and Pods of 200 owners. One Pod in ten asks for a zone, prefers a disk and
// tolerates a taint; one node in ten has that taint.
func benchmarkCluster(b *testing.B, nodes, wanting int) *state.Store {
	b.Helper()
	s := state.New(tables.Schema(), time.Now)
	log := &statetest.Log{Store: s}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Commit(ctx, log) }()
	b.Cleanup(func() { cancel(); <-done })
	if err := s.Leading(ctx); err != nil {
		b.Fatal(err)
	}
	for at := 0; at < nodes; at += 500 {
		statetest.Update(b, s, func(tx *state.Txn) {
			for i := at; i < min(nodes, at+500); i++ {
				tx.Create(benchmarkNode(i))
			}
		})
	}
	for at := 0; at < wanting; at += 500 {
		statetest.Update(b, s, func(tx *state.Txn) {
			for i := at; i < min(wanting, at+500); i++ {
				tx.Create(benchmarkPod(i, wanting))
			}
		})
	}
	return s
}

func benchmarkNode(i int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i), Labels: map[string]string{"zone": fmt.Sprint("z", i%3), "disk": fmt.Sprint("d", i%2)}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if i%10 == 0 {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	}
	return n
}

func benchmarkPod(i, all int) *corev1.Pod {
	owner, controller := i*200/all, true
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: fmt.Sprintf("web-%03d-%05d", owner, i),
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: fmt.Sprint("web-", owner), UID: types.UID(fmt.Sprint("rs-", owner)), Controller: &controller}},
	}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "example.org/web:1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
	}}}
	if owner%10 == 0 {
		p.Spec.NodeSelector = map[string]string{"zone": "z1"}
		p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"d1"}}}},
		}}}}
	}
	return p
}

// BenchmarkPlace10000On1000 places Pods in memory, without writing where.
func BenchmarkPlace10000On1000(b *testing.B) {
	snap := benchmarkCluster(b, 1000, 10_000).View()
	for b.Loop() {
		v := NewView(snap)
		for _, p := range pending(snap, nil) {
			d := v.demand(p)
			i, why := v.choose(d)
			if i < 0 {
				b.Fatalf("%s: %v", p.Name, why)
			}
			v.reserve(i, d)
		}
	}
}

// BenchmarkRun10000On1000 is all of it: the feeds, placing, and the store's own writes of bindings, conditions and Events.
func BenchmarkRun10000On1000(b *testing.B) {
	s := benchmarkCluster(b, 1000, 10_000)
	snap := s.View()
	for b.Loop() {
		fork := state.Fork(snap, time.Now)
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 2)
		go func() { done <- fork.Commit(ctx, &statetest.Log{Store: fork}) }()
		if err := fork.Leading(ctx); err != nil {
			b.Fatal(err)
		}
		go func() { done <- Run(ctx, fork, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry())) }()
		awaitBound(b, state.Changes[*corev1.Pod](fork, snap.Version), 10_000)
		cancel()
		<-done
		<-done
	}
}

// awaitBound returns once n Pods were bound.
func awaitBound(b *testing.B, feed *state.Feed[*corev1.Pod], n int) {
	b.Helper()
	buf := make([]state.Change[*corev1.Pod], 256)
	for n > 0 {
		got, err := feed.Next(b.Context(), buf)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range buf[:got] {
			if c.Old.Spec.NodeName == "" && c.New.Spec.NodeName != "" {
				n--
			}
		}
	}
}
