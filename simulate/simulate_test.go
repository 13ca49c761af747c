package simulate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/controllers/declared"
	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/endpoints"
	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/garbage"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/controllers/revision"
	"github.com/mainstay-cluster/mainstay/controllers/service"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/simulate"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func live() simulate.Cluster {
	return simulate.Cluster{
		Controllers: append([]engine.Controller{
			deployment.Controller(), deployment.Prepull(), replicaset.Controller(), service.Controller(), endpoints.Controller(),
			declared.Controller(kube.Default), declared.Replacer(), revision.Controller(),
		}, garbage.Controllers()...),
		Rules: plan.Rules{Default: kube.Default, ValidateUpdate: kube.ValidateUpdate, Message: kube.Message},
	}
}

func nodes(names ...string) (out []object.Object) {
	for _, name := range names {
		out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("4")},
		}})
	}
	return append(out, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "test"}, Status: object.ClusterStatus{Revision: "one"}})
}

func desired(t testing.TB, manifests ...string) (out []plan.Desired) {
	t.Helper()
	for i, manifest := range manifests {
		text, err := yaml.YAMLToJSON([]byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		var meta metav1.TypeMeta
		if err := json.Unmarshal(text, &meta); err != nil {
			t.Fatal(err)
		}
		kind, ok := object.ByGVK(meta.GroupVersionKind())
		if !ok {
			t.Fatalf("unknown kind %v", meta)
		}
		obj := kind.New()
		if err := json.Unmarshal(text, obj); err != nil {
			t.Fatal(err)
		}
		kube.Default(obj)
		out = append(out, plan.Desired{Object: obj, Kind: kind, Declared: text, Path: fmt.Sprintf("%d.yaml", i), Line: 1})
	}
	return out
}

func deploy(name, image string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: %[3]d
  minReadySeconds: 5
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: %[2]q}]}
`, name, image, replicas)
}

const job = "{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: default}, spec: {containers: [{name: main, image: 'job:1'}]}}"

// standing is a cluster in which manifests have been carried out.
func standing(t testing.TB, objects []object.Object, manifests ...string) *state.Store {
	t.Helper()
	s := statetest.New(t, objects...)
	if len(manifests) > 0 {
		carryOut(t, s, manifests...)
	}
	return s
}

// carryOut activates manifests for good and lets everything follow.
func carryOut(t testing.TB, s *state.Store, manifests ...string) {
	t.Helper()
	if err := simulate.CarryOut(t.Context(), s, live(), desired(t, manifests...)); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, s *state.Store, manifests ...string) plan.Report {
	t.Helper()
	before := s.View()
	report, err := simulate.Run(t.Context(), before, live(), desired(t, manifests...), simulate.Commit{Hash: "abc", Subject: "try"})
	if err != nil {
		t.Fatal(err)
	}
	if s.View() != before {
		t.Error("the store itself was changed")
	}
	if report.Pods.Unfinished != "" {
		t.Errorf("unfinished: %s", report.Pods.Unfinished)
	}
	return report
}

func TestSimulate(t *testing.T) {
	two := nodes("n1", "n2")
	for name, tc := range map[string]struct {
		standing, manifests []string
		want                plan.PodReport
	}{
		"a new deployment": {
			manifests: []string{deploy("web", "web:1", 6)},
			want: plan.PodReport{Created: 6, Workloads: []plan.Workload{
				{Kind: "Deployment", Namespace: "default", Name: "web", Created: 6, Nodes: []plan.NodeShare{{Node: "n1", Pods: 3}, {Node: "n2", Pods: 3}}},
			}},
		},
		"another image": {
			standing:  []string{deploy("web", "web:1", 2), deploy("db", "db:1", 1)},
			manifests: []string{deploy("web", "web:2", 2), deploy("db", "db:1", 1)},
			want: plan.PodReport{Kept: 1, Replaced: 2, Workloads: []plan.Workload{
				{Kind: "Deployment", Namespace: "default", Name: "web", Replaced: 2, Nodes: []plan.NodeShare{{Node: "n1", Pods: 1}, {Node: "n2", Pods: 1}}},
			}},
		},
		"more replicas than fit": {
			standing:  []string{deploy("web", "web:1", 6)},
			manifests: []string{deploy("web", "web:1", 11)},
			want: plan.PodReport{Kept: 6, Created: 5, Unschedulable: 3, Workloads: []plan.Workload{{
				Kind: "Deployment", Namespace: "default", Name: "web", Kept: 6, Created: 5,
				Nodes: []plan.NodeShare{{Node: "n1", Pods: 1}, {Node: "n2", Pods: 1}}, Unschedulable: []plan.Unschedulable{{Reason: "0/2 nodes are available: 2 Too many pods.", Pods: 3}},
			}}},
		},
		"fewer replicas and a Pod that is no longer declared": {
			standing:  []string{deploy("web", "web:1", 3), job},
			manifests: []string{deploy("web", "web:1", 1)},
			want: plan.PodReport{Kept: 1, Deleted: 3, Workloads: []plan.Workload{
				{Kind: "Deployment", Namespace: "default", Name: "web", Kept: 1, Deleted: 2},
				{Kind: "Pod", Namespace: "default", Name: "job", Deleted: 1},
			}},
		},
		"a bare Pod with another image": {
			standing:  []string{job},
			manifests: []string{strings.Replace(job, "job:1", "job:2", 1)},
			want: plan.PodReport{Replaced: 1, Workloads: []plan.Workload{
				{Kind: "Pod", Namespace: "default", Name: "job", Replaced: 1, Nodes: []plan.NodeShare{{Node: "n1", Pods: 1}}},
			}},
		},
		"only a label": {
			standing:  []string{deploy("web", "web:1", 3)},
			manifests: []string{strings.Replace(deploy("web", "web:1", 3), "namespace: default}", "namespace: default, labels: {a: b}}", 1)},
			want:      plan.PodReport{Kept: 3, Workloads: []plan.Workload{}},
		},
		"nothing": {
			standing:  []string{deploy("web", "web:1", 3)},
			manifests: []string{deploy("web", "web:1", 3)},
			want:      plan.PodReport{Kept: 3, Workloads: []plan.Workload{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := standing(t, two, tc.standing...)
			got := run(t, s, tc.manifests...)
			if diff := cmp.Diff(tc.want, got.Pods, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("pods (-want +got):\n%s", diff)
			}
			// P8: what was foretold is what happens.
			before := uids(s)
			carryOut(t, s, tc.manifests...)
			kept := 0
			for uid := range uids(s) {
				if before[uid] {
					kept++
				}
			}
			if kept != got.Pods.Kept || len(uids(s)) != kept+got.Pods.Replaced+got.Pods.Created {
				t.Errorf("%d Pods of which %d are as before; foretold: %+v", len(uids(s)), kept, got.Pods)
			}
		})
	}
}

func uids(s *state.Store) map[string]bool {
	out := map[string]bool{}
	for pod := range state.List[*corev1.Pod](s.View(), "") {
		out[string(pod.UID)] = true
	}
	return out
}

func TestARolloutThatIsUnderWayIsNotThePlansDoing(t *testing.T) {
	s := standing(t, nodes("n1"), deploy("web", "web:1", 2))
	if err := simulate.Activate(t.Context(), s, live(), desired(t, deploy("web", "web:2", 2))); err != nil {
		t.Fatal(err)
	}
	got := run(t, s, deploy("web", "web:2", 2), "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: default}}")
	if len(got.Pods.Workloads) != 0 || got.Pods.Kept != 2 || got.Counts.Created != 1 {
		t.Errorf("report = %+v", got)
	}
}

// A Pod that has only just become Ready holds a rollout up for minReadySeconds: that time passes in a simulation.
func TestTimePasses(t *testing.T) {
	s := standing(t, nodes("n1"), deploy("web", "web:1", 1))
	if err := simulate.Activate(t.Context(), s, live(), desired(t, deploy("web", "web:2", 1))); err != nil {
		t.Fatal(err)
	}
	if err := engine.Settle(t.Context(), s, live().Controllers, time.Now()); err != nil {
		t.Fatal(err)
	}
	statetest.Update(t, s, func(tx *state.Txn) {
		for pod := range state.List[*corev1.Pod](s.View(), "") {
			if pod.Spec.NodeName == "" {
				pod = pod.DeepCopy()
				pod.Spec.NodeName = "n1"
				tx.Update(pod)
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
				tx.SetStatus(pod)
			}
		}
	})
	if n := len(uids(s)); n != 2 {
		t.Fatalf("%d Pods, want the old one and a Ready new one: the test shows nothing", n)
	}
	carryOut(t, s, deploy("web", "web:2", 1))
	if n := len(uids(s)); n != 1 {
		t.Errorf("%d Pods, want the rollout to have ended", n)
	}
}

func TestProblemsEndASimulation(t *testing.T) {
	s := standing(t, nodes("n1"), deploy("web", "web:1", 2))
	got := run(t, s, strings.ReplaceAll(deploy("web", "web:1", 2), "app: web", "app: x"))
	if len(got.Problems) == 0 || len(got.Objects) != 0 || got.Empty() {
		t.Errorf("report = %+v", got)
	}
}

func TestNodesThatAreNotReadyDoNothing(t *testing.T) {
	s := standing(t, nodes("n1"), deploy("web", "web:1", 1))
	statetest.Update(t, s, func(tx *state.Txn) {
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n1"})
		node = node.DeepCopy()
		node.Status.Conditions[0].Status = corev1.ConditionUnknown
		tx.SetStatus(node)
	})
	got := run(t, s, deploy("web", "web:2", 1))
	want := plan.PodReport{Kept: 1, Created: 1, Unschedulable: 1, Workloads: []plan.Workload{{
		Kind: "Deployment", Namespace: "default", Name: "web", Kept: 1, Created: 1,
		Unschedulable: []plan.Unschedulable{{Reason: "0/1 nodes are available: 1 node(s) were not ready.", Pods: 1}},
	}}}
	if diff := cmp.Diff(want, got.Pods); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}

// BenchmarkRun plans 4 000 objects on a cluster that has them, one in ten changed.
func BenchmarkRun(b *testing.B) {
	manifests := func(image string) (out []string) {
		for i := range 1000 {
			tag := "1"
			if i%10 == 0 {
				tag = image
			}
			out = append(out, deploy(fmt.Sprintf("web-%d", i), "web:"+tag, 0),
				fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: c-%d, namespace: default}, data: {a: %q}}", i, tag),
				fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s-%d, namespace: default}}", i),
				fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: web-%d, namespace: default}, spec: {selector: {app: web-%d}, ports: [{port: 80}]}}", i, i))
		}
		return out
	}
	s := standing(b, nodes("n1", "n2"), manifests("1")...)
	changed := desired(b, manifests("2")...)
	for b.Loop() {
		report, err := simulate.Run(b.Context(), s.View(), live(), changed, simulate.Commit{})
		if err != nil || report.Counts.Changed != 200 {
			b.Fatalf("%+v, %v", report.Counts, err)
		}
	}
}
