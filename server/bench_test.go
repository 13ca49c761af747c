package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// The cluster of BenchmarkLargeCluster.
const (
	largeNodes   = 5000
	largeSets    = 300
	largePodsPer = 500
)

// BenchmarkLargeCluster is the memory of a store with 5 000 nodes and 150 000 Pods that run, beside an API and a scheduler that
// have looked at all of them. Every object has come by entries of a log, and each Pod in the steps of its life: made by its
// ReplicaSet, bound with an Event, reported as running. alive-MiB is what is reachable then, resident-MiB what the process has
// of the machine's memory. The agents' connections are not in it.
func BenchmarkLargeCluster(b *testing.B) {
	var alive, resident float64
	for b.Loop() {
		alive, resident = fillLargeCluster(b)
	}
	b.ReportMetric(alive, "alive-MiB")
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(0, "ns/op")
}

func fillLargeCluster(b *testing.B) (alive, resident float64) {
	b.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent)) // that of a server under such load
	store := state.New(tables.Schema(), time.Now)
	g, ctx := errgroup.WithContext(b.Context())
	ctx, end := context.WithCancel(ctx)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	g.Go(func() error { return store.Commit(ctx, &statetest.Log{Store: store}) })
	if err := store.Leading(ctx); err != nil {
		b.Fatal(err)
	}
	g.Go(func() error { return api.New(api.Config{Store: store, Log: log}).Run(ctx) })
	for i := range largeNodes {
		statetest.Update(b, store, func(tx *state.Txn) { tx.Create(largeNode(i)) })
	}
	for i := range largeSets {
		runSet(b, store, i)
	}
	g.Go(func() error { return sched.Run(ctx, store, log, sched.NewMetrics(prometheus.NewRegistry())) })
	statetest.Update(b, store, func(tx *state.Txn) { tx.Create(misfit()) })
	awaitRefusal(b, store)
	debug.SetGCPercent(gcPercentCalm)
	store.ForgetOld()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	alive, resident = float64(m.HeapAlloc)/(1<<20), residentMiB(b)
	end()
	_ = g.Wait() // by end
	runtime.KeepAlive(store)
	return alive, resident
}

func largeNode(i int) *corev1.Node {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	name, now := fmt.Sprintf("node-%04d", i), metav1.NewTime(time.Now().Truncate(time.Second))
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"}},
		Spec:       corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.%d.%d.0/24", 128+i>>8, i&255)},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("198.18.%d.%d", i>>8, i&255)}},
		},
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, "EngineResponsive", "LiveRestore", corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return node
}

// runSet makes a ReplicaSet and its Pods, binds them, and has them run.
func runSet(b *testing.B, store *state.Store, i int) {
	b.Helper()
	rs := largeSet(fmt.Sprintf("app-%03d", i))
	statetest.Update(b, store, func(tx *state.Txn) {
		tx.Create(rs)
		for range largePodsPer {
			tx.Create(podcontrol.FromTemplate(&rs.Spec.Template, rs))
		}
	})
	at := i * largePodsPer
	eachPod(b, store, rs, func(tx *state.Txn, pod *corev1.Pod) {
		bound := *pod
		bound.Spec.NodeName = fmt.Sprintf("node-%04d", at%largeNodes)
		at++
		tx.Update(&bound)
		bound.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: pod.CreationTimestamp}}
		tx.SetStatus(&bound)
		event.Emit(tx, event.Event{
			About: pod, From: "scheduler", Type: corev1.EventTypeNormal, Reason: "Scheduled", Message: fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, bound.Spec.NodeName),
		}, time.Now())
	})
	at = i * largePodsPer
	eachPod(b, store, rs, func(tx *state.Txn, pod *corev1.Pod) {
		running := *pod
		running.Status = runningStatus(pod, at)
		at++
		tx.SetStatus(&running)
	})
}

func largeSet(app string) *appsv1.ReplicaSet {
	labels := map[string]string{"app": app, "pod-template-hash": "5d4f8c7b9"}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app + "-5d4f8c7b9", Labels: labels}}
	rs.UID = types.UID("0f6c8b1b-7b3d-4a5f-9d2f-" + strings.Repeat("0", 12-len(app)) + app) // Pods name it as their owner before it is stored
	rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	rs.Spec.Template.Labels = labels
	rs.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "app", Image: "registry.example.org/team/" + app + ":1.2.3", Args: []string{"--listen=:8080", "--log=json"},
		Env:            []corev1.EnvVar{{Name: "MODE", Value: "production"}, {Name: "PEERS", Value: strings.Repeat("p", 200)}},
		Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}},
		Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		ReadinessProbe: &corev1.Probe{PeriodSeconds: 10, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz"}}},
	}}
	return rs
}

// eachPod does something to every Pod of a ReplicaSet in one transaction.
func eachPod(b *testing.B, store *state.Store, rs *appsv1.ReplicaSet, do func(*state.Txn, *corev1.Pod)) {
	b.Helper()
	statetest.Update(b, store, func(tx *state.Txn) {
		stored, _ := state.Get[*appsv1.ReplicaSet](tx, state.KeyOf(rs))
		var pods []*corev1.Pod
		for pod := range state.ListBy(tx, tables.PodsByOwner, string(stored.UID)) {
			pods = append(pods, pod)
		}
		if len(pods) != largePodsPer {
			b.Fatalf("%d Pods of %s, want %d", len(pods), rs.Name, largePodsPer)
		}
		for _, pod := range pods {
			do(tx, pod)
		}
	})
}

// runningStatus is as large as an agent's.
func runningStatus(pod *corev1.Pod, i int) corev1.PodStatus {
	now, yes := metav1.NewTime(time.Now().Truncate(time.Second)), true
	ip := fmt.Sprintf("10.%d.%d.%d", 128+i%largeNodes>>8, i%largeNodes&255, 2+i/largeNodes)
	host := fmt.Sprintf("198.18.%d.%d", i%largeNodes>>8, i%largeNodes&255)
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: host, HostIPs: []corev1.HostIP{{IP: host}}, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		StartTime: &now, QOSClass: pod.Status.QOSClass, Conditions: pod.Status.Conditions,
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: "sha256:" + strings.Repeat("d", 64), ContainerID: fmt.Sprintf("docker://%064x", i), Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return status
}

// misfit has the scheduler look at everything, and changes nothing.
func misfit() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "misfit"}}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")},
	}}}
	return pod
}

// awaitRefusal waits for the scheduler to have looked at everything.
func awaitRefusal(b *testing.B, store *state.Store) {
	b.Helper()
	for version := store.View().Version; ; version++ {
		if pod, _ := state.Get[*corev1.Pod](store.View(), state.Key{Namespace: "default", Name: "misfit"}); len(pod.Status.Conditions) > 0 {
			return
		}
		if _, err := store.Wait(b.Context(), version+1); err != nil {
			b.Fatal(err)
		}
	}
}

func residentMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	kib, err := strconv.ParseFloat(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status)[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
