package state

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// benchmarkPod is a Pod of two containers with a status: about 2 kB encoded.
func benchmarkPod(i int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: fmt.Sprintf("web-%06d", i), Labels: map[string]string{"app": "web", "pod-template-hash": "5d4f8c7b9"},
	}}
	p.Spec.NodeName = fmt.Sprint("node-", i%1000)
	for _, name := range []string{"app", "sidecar"} {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: name, Image: "registry.example.org/team/" + name + ":1.2.3", Args: []string{"--listen=:8080", "--log=json"},
			Env: []corev1.EnvVar{{Name: "A", Value: strings.Repeat("a", 200)}, {Name: "B", Value: strings.Repeat("b", 200)}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
			Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 10, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz"}}},
		})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, Image: "registry.example.org/team/" + name + ":1.2.3", ContainerID: "docker://" + strings.Repeat("c", 64),
			ImageID: "docker-pullable://registry.example.org/team/" + name + "@sha256:" + strings.Repeat("d", 64),
		})
	}
	for _, c := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue})
	}
	p.Status.Phase, p.Status.PodIP = corev1.PodRunning, "10.244.1.2"
	return p
}

// benchmarkStore holds n such Pods; it also returns the entries that made it.
func benchmarkStore(b *testing.B, n int) (*Store, [][]byte) {
	b.Helper()
	s := New(testSchema(), time.Now)
	var entries [][]byte
	for at := 0; at < n; at += 64 {
		tx := &Txn{base: s.View(), now: time.Now()}
		for i := at; i < min(n, at+64); i++ {
			tx.Create(benchmarkPod(i))
		}
		entry := encodeBatch([][]byte{encodeTxn(tx.ops)})
		entries = append(entries, entry)
		s.Apply(uint64(len(entries)), entry)
	}
	return s, entries
}

// BenchmarkApply applies entries of 64 new Pods to a store that grows to 50 000.
func BenchmarkApply(b *testing.B) {
	const count = 50_000
	_, entries := benchmarkStore(b, count)
	b.ReportAllocs()
	for b.Loop() {
		s := New(testSchema(), time.Now)
		for i, entry := range entries {
			s.Apply(uint64(i+1), entry)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/object")
}

// BenchmarkUpdateStatus is one caller's transaction of one status, without a log.
func BenchmarkUpdateStatus(b *testing.B) {
	s, _ := benchmarkStore(b, 50_000)
	index, i := uint64(1_000_000), 0
	b.ReportAllocs()
	for b.Loop() {
		tx := &Txn{base: s.View(), now: time.Now()}
		p, _ := Get[*corev1.Pod](tx, Key{"default", fmt.Sprintf("web-%06d", i%50_000)})
		status := *p
		status.Status.PodIP = fmt.Sprint("10.0.0.", i)
		tx.SetStatus(&status)
		index++
		s.Apply(index, encodeBatch([][]byte{encodeTxn(tx.ops)}))
		i++
	}
}

func BenchmarkSnapshotOut50000Pods(b *testing.B) {
	s, _ := benchmarkStore(b, 50_000)
	var size bytes.Buffer
	if err := s.View().Persist(&size); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size.Len()))
	for b.Loop() {
		if err := s.View().Persist(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshotIn50000Pods(b *testing.B) {
	s, _ := benchmarkStore(b, 50_000)
	file := persisted(b, s.View())
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if err := New(testSchema(), time.Now).Restore(bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFeedFanOut is the cost of one change that 1000 readers follow.
func BenchmarkFeedFanOut(b *testing.B) {
	const readers = 1000
	s, _ := benchmarkStore(b, 1000)
	version := s.View().Version
	var wg sync.WaitGroup
	for range readers {
		feed := Changes[*corev1.Pod](s, version)
		wg.Go(func() {
			buf := make([]Change[*corev1.Pod], 64)
			for seen := 0; seen < b.N; {
				n, err := feed.Next(b.Context(), buf)
				if err != nil {
					b.Error(err)
					return
				}
				seen += n
			}
		})
	}
	b.ResetTimer()
	for i := range b.N {
		tx := &Txn{base: s.View(), now: time.Now()}
		p, _ := Get[*corev1.Pod](tx, Key{"default", "web-000001"})
		status := *p
		status.Status.PodIP = fmt.Sprint(i)
		tx.SetStatus(&status)
		s.Apply(uint64(1000+i), encodeBatch([][]byte{encodeTxn(tx.ops)}))
	}
	wg.Wait()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/readers, "ns/reader")
}

// BenchmarkListByNode lists 50 Pods that lie far from each other, BenchmarkListBySide 50 000 that lie side by side.
func BenchmarkListByNode(b *testing.B) {
	benchmarkListBy(b, func(i int) string { return fmt.Sprint("node-", i%1000) }, 50)
}
func BenchmarkListBySide(b *testing.B) {
	benchmarkListBy(b, func(int) string { return "node-7" }, 50_000)
}

func benchmarkListBy(b *testing.B, node func(i int) string, want int) {
	s := New(testSchema(), time.Now)
	tx := &Txn{base: s.View(), now: time.Now()}
	for i := range 50_000 {
		tx.Create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%06d", i)}, Spec: corev1.PodSpec{NodeName: node(i)}})
	}
	s.Apply(1, encodeBatch([][]byte{encodeTxn(tx.ops)}))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range ListBy(s.View(), byNode, "node-7") {
			n++
		}
		if n != want {
			b.Fatalf("%d Pods, want %d", n, want)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(want), "ns/object")
}
