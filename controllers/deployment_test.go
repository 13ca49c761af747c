package controllers_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// sizes is how many replicas each image has.
func (s *sim) sizes() map[string]int32 {
	sizes := map[string]int32{}
	for _, rs := range s.replicaSets() {
		sizes[rs.Spec.Template.Spec.Containers[0].Image] += *rs.Spec.Replicas
	}
	return sizes
}

// The example of Kubernetes' documentation: 10 replicas, surge 3, 2 unavailable, stuck at 8 old and 5 new; 15 are wanted.
func TestScalingInARolloutIsProportional(t *testing.T) {
	surge, unavailable := intstr.FromInt32(3), intstr.FromInt32(2)
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	d := deploymentOf("web", 10, strategy("0", "1"))
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}
	s.put(d)
	s.finish()
	s.stuck = func(pod *corev1.Pod) bool { return pod.Spec.Containers[0].Image == "app:2" }
	s.changeTemplate("web", "app:2")
	s.finish()
	if got := s.sizes(); got["app:1"] != 8 || got["app:2"] != 5 {
		t.Fatalf("stuck at %v, want 8 old and 5 new", got)
	}
	s.change("web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 15 })
	s.finish()
	if got := s.sizes(); got["app:1"] != 11 || got["app:2"] != 7 {
		t.Errorf("scaled to %v, want 11 old and 7 new", got)
	}
	s.change("web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 })
	s.finish()
	if got := s.sizes(); got["app:1"] != 0 || got["app:2"] != 0 {
		t.Errorf("scaled to %v, want none", got)
	}
}

func TestNameThatIsTakenCountsAsACollision(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 1, strategy("1", "0")))
	s.finish()
	taken := s.replicaSets()[0].DeepCopy()
	taken.ResourceVersion, taken.UID, taken.OwnerReferences = "", "", nil
	taken.Labels = map[string]string{"app": "other"}
	taken.Spec.Selector = &metav1.LabelSelector{MatchLabels: taken.Labels}
	taken.Spec.Template.Labels = taken.Labels

	s = newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(taken, deploymentOf("web", 1, strategy("1", "0")))
	s.finish()
	d := s.deployment("web")
	if d.Status.CollisionCount == nil || *d.Status.CollisionCount != 1 || d.Status.AvailableReplicas != 1 {
		t.Errorf("status %+v", d.Status)
	}
	if got := len(s.replicaSets()); got != 2 {
		t.Errorf("%d ReplicaSets, want the foreign one and a new one", got)
	}
}

func TestReplicaSetWithoutControllerIsAdoptedUnlessItIsDeclared(t *testing.T) {
	orphan := replicaSetOf("stray", 1)
	orphan.Labels = map[string]string{"app": "web"}
	orphan.Spec.Template.Labels = orphan.Labels
	orphan.Spec.Selector.MatchLabels = orphan.Labels
	for name, tc := range map[string]struct {
		others []object.Object
		sets   int // that the Deployment owns at the end
	}{
		"stray":    {nil, 1},
		"declared": {[]object.Object{&object.Source{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "replicasets.stray"}}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, deployment.Controller())
			s.put(append(tc.others, orphan, deploymentOf("web", 1, strategy("1", "0")))...)
			s.reconcile("deployment", state.Key{Namespace: "default", Name: "web"})
			stray, _ := state.Get[*appsv1.ReplicaSet](s.store.View(), state.KeyOf(orphan))
			if adopted := metav1.GetControllerOf(stray) != nil; adopted != (len(tc.others) == 0) {
				t.Errorf("adopted: %t", adopted)
			}
			if want := 1 + len(tc.others); len(s.replicaSets()) != want {
				t.Errorf("%d ReplicaSets, want %d", len(s.replicaSets()), want)
			}
		})
	}
}

func TestDeadlineIsWaitedForOnce(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.stuck = func(*corev1.Pod) bool { return true }
	s.put(deploymentOf("web", 1, strategy("1", "0")))
	s.finish()
	look := func(after time.Duration) (again time.Duration) {
		statetest.Update(t, s.store, func(tx *state.Txn) {
			again, _ = deployment.Controller().Reconcile(tx, state.Key{Namespace: "default", Name: "web"}, s.now.Add(after))
		})
		return again
	}
	if got, want := look(100*time.Second), 501*time.Second; got != want {
		t.Errorf("looks again in %v, want %v", got, want)
	}
	if got := look(601 * time.Second); got != 0 {
		t.Errorf("looks again in %v after the deadline has passed", got)
	}
	if c := s.condition("web", appsv1.DeploymentProgressing); c.Reason != "ProgressDeadlineExceeded" {
		t.Errorf("Progressing is %+v", c)
	}
}

func TestOneStepSaysOneEvent(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 4, strategy("25%", "25%")))
	s.finish()
	count := func() int { return state.Len[*corev1.Event](s.store.View()) }
	before := count()
	s.changeTemplate("web", "app:2")
	s.reconcile("deployment", state.Key{Namespace: "default", Name: "web"})
	if got := count() - before; got != 1 {
		t.Fatalf("%d Events for one step", got)
	}
	for e := range state.List[*corev1.Event](s.store.View(), "") {
		if e.Reason == "ScalingReplicaSet" && strings.Contains(e.Message, "; ") {
			want := "Scaled up replica set"
			if !strings.HasPrefix(e.Message, want) || !strings.Contains(e.Message, "Scaled down replica set") {
				t.Errorf("Event says %q", e.Message)
			}
			return
		}
	}
	t.Error("no Event tells of scaling up and down")
}

// A Deployment at rest is looked at without a write, by every controller there is.
func TestRestIsRest(t *testing.T) {
	s := newSim(t, all()...)
	s.activate("one", deploymentOf("web", 3, strategy("25%", "25%")))
	s.live()
	before := s.store.View().Version
	s.now = s.now.Add(30 * time.Minute)
	if err := engine.Settle(t.Context(), s.store, s.controllers, s.now); err != nil {
		t.Fatal(err)
	}
	if got := s.store.View().Version; got != before {
		t.Errorf("%d writes at rest", got-before)
	}
}
