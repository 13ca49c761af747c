package controllers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/declared"
	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/endpoints"
	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/garbage"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/controllers/revision"
	"github.com/mainstay-cluster/mainstay/controllers/service"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func all() []engine.Controller {
	return append(garbage.Controllers(), deployment.Controller(), deployment.Prepull(), replicaset.Controller(), endpoints.Controller(),
		service.Controller(), declared.Controller(func(object.Object) {}), revision.Controller())
}

// settle runs every controller until nothing changes, without anything happening on nodes.
func (s *sim) settle() {
	s.t.Helper()
	if err := engine.Settle(s.t.Context(), s.store, s.controllers, s.now); err != nil {
		s.t.Fatal(err)
	}
}

// live lets nodes do their part too, until nothing changes.
func (s *sim) live() {
	s.t.Helper()
	for before := state.Version(0); s.store.View().Version != before; {
		before = s.store.View().Version
		s.settle()
		for i, pod := range s.pods() {
			s.advance(pod, i)
		}
	}
}

// activate is what a commit does: objects, their Sources, the Revision, and the Cluster that names it.
func (s *sim) activate(name string, objects ...object.Object) {
	s.t.Helper()
	statetest.Update(s.t, s.store, func(tx *state.Txn) {
		for _, o := range objects {
			tx.Create(o.DeepCopyObject().(object.Object))
			tx.Create(sourceOf(s.t, o))
		}
		rev := &object.Revision{ObjectMeta: metav1.ObjectMeta{Name: name}}
		rev.Status.Phase = object.RevisionActive
		tx.Create(rev)
		key := state.Key{Name: "c"}
		if _, ok := state.Get[*object.Cluster](tx, key); !ok {
			tx.Create(&object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: key.Name}})
		}
		cluster, _ := state.Get[*object.Cluster](tx, key)
		cluster = cluster.DeepCopy()
		cluster.Status.Revision = name
		tx.SetStatus(cluster)
	})
}

func sourceOf(t testing.TB, o object.Object) *object.Source {
	kind := object.KindOf(o)
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	apiVersion, name := kind.GroupVersionKind.ToAPIVersionAndKind()
	return &object.Source{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: object.SourceName(kind, o.GetName())},
		Spec:       object.SourceSpec{APIVersion: apiVersion, Kind: name, Name: o.GetName(), Declared: text},
	}
}

func (s *sim) revision(name string) object.RevisionStatus {
	rev, _ := state.Get[*object.Revision](s.store.View(), state.Key{Name: name})
	return rev.Status
}

// asReported is what a node tells of the Pods that it runs: no owner, no version.
func asReported(pods []*corev1.Pod) []object.Object {
	var reported []object.Object
	for _, pod := range pods {
		pod = pod.DeepCopy()
		pod.OwnerReferences, pod.ResourceVersion = nil, ""
		reported = append(reported, pod)
	}
	return reported
}

func TestRebuiltClusterKeepsEveryPodAndRemovesOnlyWhatIsUnwanted(t *testing.T) {
	web, bare := deploymentOf("web", 4, strategy("25%", "25%")), podOf("bare", "bare", "", false)
	first := newSim(t, all()...)
	first.activate("one", web, bare)
	first.live()
	running := first.uids()
	if len(running) != 5 {
		t.Fatalf("%d Pods: %v", len(running), first.describe())
	}

	rebuilt := newSim(t, all()...)
	rebuilt.put(asReported(first.pods())...)
	rebuilt.put(podOf("leftover", "gone", "n1", true))
	rebuilt.live()
	if got := len(rebuilt.uids()); got != 6 {
		t.Fatalf("before a revision is in force %d Pods are left, want all 6", got)
	}
	statetest.Update(t, rebuilt.store, func(tx *state.Txn) { tx.Create(sourceOf(t, bare)) })
	rebuilt.activate("one", web)
	rebuilt.live()
	if got := rebuilt.uids(); !slices.Equal(got, running) {
		t.Errorf("Pods %v, want those that ran before: %v", got, running)
	}
	if got := rebuilt.revision("one").Phase; got != object.RevisionConverged {
		t.Errorf("revision is %s: %s", got, rebuilt.revision("one").Message)
	}
}

func TestClusterLostInARolloutKeepsOldPodsUntilNewOnesAreAvailable(t *testing.T) {
	first := newSim(t, all()...)
	first.activate("one", deploymentOf("web", 3, strategy("1", "0")))
	first.live()
	rebuilt := newSim(t, all()...)
	rebuilt.put(asReported(first.pods())...)
	changed := deploymentOf("web", 3, strategy("1", "0"))
	changed.Spec.Template.Spec.Containers[0].Image = "app:2"
	rebuilt.stuck = func(pod *corev1.Pod) bool { return true }
	rebuilt.activate("two", changed)
	rebuilt.live()
	rebuilt.mustAllBeReady(first.uids())
	rebuilt.stuck = func(pod *corev1.Pod) bool { return false }
	rebuilt.live()
	rebuilt.mustBeComplete("web", 3)
	if got := len(rebuilt.pods()); got != 3 {
		t.Errorf("%d Pods: %v", got, rebuilt.describe())
	}
}

func TestEverythingOfADeletedDeploymentGoes(t *testing.T) {
	s := newSim(t, all()...)
	s.activate("one", deploymentOf("web", 2, strategy("1", "0")), deploymentOf("db", 1, strategy("1", "0")))
	s.live()
	statetest.Update(t, s.store, func(tx *state.Txn) {
		d, _ := state.Get[*appsv1.Deployment](tx, state.Key{Namespace: "default", Name: "web"})
		tx.Delete(d)
		source, _ := state.Get[*object.Source](tx, state.Key{Namespace: "default", Name: "deployments.web"})
		tx.Delete(source)
	})
	s.settle()
	for _, pod := range s.pods() {
		dying := pod.DeletionTimestamp != nil
		if want := pod.Labels["app"] == "web"; dying != want {
			t.Errorf("%s is being deleted: %t", pod.Name, dying)
		}
	}
	s.live()
	if got := len(s.pods()); got != 1 || len(s.replicaSets()) != 1 {
		t.Errorf("%d Pods and %d ReplicaSets are left", got, len(s.replicaSets()))
	}
}

func TestRemovedNamespaceIsEmptied(t *testing.T) {
	s := newSim(t, all()...)
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	web := deploymentOf("web", 2, strategy("1", "0"))
	web.Namespace = "shop"
	s.activate("one", shop, web, deploymentOf("db", 1, strategy("1", "0")))
	s.live()
	statetest.Update(t, s.store, func(tx *state.Txn) { // pruned without its objects, as if they had been made by hand
		ns, _ := state.Get[*corev1.Namespace](tx, state.Key{Name: "shop"})
		tx.Delete(ns)
		source, _ := state.Get[*object.Source](tx, state.Key{Name: "namespaces.shop"})
		tx.Delete(source)
	})
	s.live()
	for _, kind := range object.Kinds() {
		if !kind.Namespaced {
			continue
		}
		for o := range state.ListKind(s.store.View(), kind, "shop") {
			t.Errorf("%s %s is left", kind.Kind, o.GetName())
		}
	}
	if got := len(s.pods()); got != 1 {
		t.Errorf("%d Pods in other namespaces, want 1", got)
	}
}

func TestPodThatWasStoppedIsMadeAnewFromItsSource(t *testing.T) {
	s := newSim(t, all()...)
	s.activate("one", podOf("bare", "bare", "n1", true))
	s.live()
	before := s.pods()[0].UID
	statetest.Update(t, s.store, func(tx *state.Txn) {
		pod, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "bare"})
		podcontrol.Delete(tx, pod, s.now)
	})
	s.settle()
	if got := s.pods(); len(got) != 1 || got[0].UID != before {
		t.Fatal("the Pod was replaced before it had stopped")
	}
	s.live()
	if got := s.pods(); len(got) != 1 || got[0].UID == before || got[0].DeletionTimestamp != nil {
		t.Errorf("the Pod was not made anew: %v", s.describe())
	}
}

func TestPodsOfANodeThatIsGoneEnd(t *testing.T) {
	s := newSim(t, all()...)
	s.put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3"}})
	s.activate("one", podOf("bare", "bare", "n3", true))
	statetest.Update(t, s.store, func(tx *state.Txn) {
		pod, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "bare"})
		podcontrol.Delete(tx, pod, s.now)
	})
	s.settle()
	if len(s.pods()) != 1 {
		t.Fatal("the Pod ended although its node is there")
	}
	before := s.pods()[0].UID
	statetest.Update(t, s.store, func(tx *state.Txn) {
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n3"})
		tx.Delete(node)
	})
	s.settle()
	if got := s.pods(); len(got) != 1 || got[0].UID == before {
		t.Errorf("%v", s.describe())
	}
}

func TestOldEventsEnd(t *testing.T) {
	s := newSim(t, all()...)
	for i := range 3 {
		at := metav1.NewTime(s.now.Add(time.Duration(i) * -30 * time.Minute))
		s.put(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i), CreationTimestamp: at}, LastTimestamp: at})
	}
	s.settle()
	var left []string
	for e := range state.List[*corev1.Event](s.store.View(), "") {
		left = append(left, e.Name)
	}
	if want := []string{"e0", "e1"}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
}

func TestRevisionTellsHowFarItIs(t *testing.T) {
	s := newSim(t, all()...)
	s.stuck = func(pod *corev1.Pod) bool { return pod.Spec.Containers[0].Image == "app:broken" }
	s.activate("one", deploymentOf("web", 3, strategy("1", "0")))
	s.settle()
	if got := s.revision("one"); got.Phase != object.RevisionActive || !strings.HasPrefix(got.Message, "Deployment default/web: 0 of 3 updated Pods available") {
		t.Errorf("at first: %s %q", got.Phase, got.Message)
	}
	s.live()
	if got := s.revision("one"); got.Phase != object.RevisionConverged || got.Message != "" || got.EndedAt == nil {
		t.Errorf("at the end: %+v", got)
	}

	s.activate("two")
	s.changeTemplate("web", "app:broken")
	s.live()
	statetest.Update(t, s.store, func(tx *state.Txn) {
		for pod := range state.List[*corev1.Pod](s.store.View(), "") {
			if s.stuck(pod) {
				pod := pod.DeepCopy()
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main",
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "manifest unknown"}}}}
				tx.SetStatus(pod)
			}
		}
	})
	s.live()
	got := s.revision("two")
	if got.Phase != object.RevisionActive || !strings.Contains(got.Message, "1 of 3 Pods updated: Pod web-") || !strings.HasSuffix(got.Message, "ImagePullBackOff: manifest unknown") {
		t.Errorf("while it hangs: %s %q", got.Phase, got.Message)
	}
	s.now = s.now.Add(602 * time.Second)
	s.live()
	got = s.revision("two")
	if got.Phase != object.RevisionFailed || !strings.Contains(got.Message, "manifest unknown (no progress for 10m)") || got.EndedAt == nil {
		t.Errorf("after the deadline: %+v", got)
	}
	s.stuck = func(*corev1.Pod) bool { return false }
	s.live()
	if got := s.revision("two"); got.Phase != object.RevisionConverged {
		t.Errorf("after it recovered: %+v", got)
	}
}

func TestAFailedRolloutDoesNotFailTheRevisionThatTakesItBack(t *testing.T) {
	for name, how := range map[string]appsv1.DeploymentStrategy{
		"rolling": strategy("1", "0"), "recreate": {Type: appsv1.RecreateDeploymentStrategyType},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, all()...)
			s.stuck = func(pod *corev1.Pod) bool { return pod.Spec.Containers[0].Image == "app:broken" }
			s.activate("one", deploymentOf("web", 2, how))
			s.live()
			s.activate("two")
			s.changeTemplate("web", "app:broken")
			s.live()
			s.now = s.now.Add(602 * time.Second)
			s.live()
			if got := s.revision("two").Phase; got != object.RevisionFailed {
				t.Fatalf("the broken revision is %s", got)
			}
			for i, image := range []string{"app:1", "app:3"} {
				rev := fmt.Sprint("good", i)
				s.activate(rev)
				s.changeTemplate("web", image)
				for s.step(i) {
					s.settle()
					if got := s.revision(rev); got.Phase == object.RevisionFailed {
						t.Fatalf("%s: %s", image, got.Message)
					}
				}
				s.live()
				if got := s.revision(rev); got.Phase != object.RevisionConverged {
					t.Errorf("%s: %+v", image, got)
				}
			}
		})
	}
}
