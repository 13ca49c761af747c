package controllers_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// pullsAhead makes every node one whose agent pulls what it is asked for, with the images given.
func (s *sim) pullsAhead(verdict corev1.ConditionStatus, message string, images ...string) {
	statetest.Update(s.t, s.store, func(tx *state.Txn) {
		for node := range state.List[*corev1.Node](s.store.View(), "") {
			node := node.DeepCopy()
			node.Status.Conditions = []corev1.NodeCondition{{Type: object.PullCondition, Status: verdict, Message: message}}
			node.Status.Images = nil
			for _, image := range images {
				node.Status.Images = append(node.Status.Images, corev1.ContainerImage{Names: []string{image}})
			}
			tx.SetStatus(node)
		}
	})
}

func (s *sim) askedToPull() map[string]string {
	asked := map[string]string{}
	for node := range state.List[*corev1.Node](s.store.View(), "") {
		if images := node.Annotations[object.PullAnnotation]; images != "" {
			asked[node.Name] = images
		}
	}
	return asked
}

// P6: nothing healthy is stopped before its replacement's image is on the node.
func TestNoHealthyPodStopsBeforeTheImageIsThere(t *testing.T) {
	for name, how := range map[string]appsv1.DeploymentStrategy{
		"recreate":           {Type: appsv1.RecreateDeploymentStrategyType},
		"rolling, no surge":  strategy("0", "1"),
		"rolling, no bounds": strategy("100%", "100%"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // mostly a wait for the store's writer
			rapid.Check(t, func(rt *rapid.T) {
				s := newSim(t, deployment.Controller(), deployment.Prepull(), replicaset.Controller())
				s.pullsAhead(corev1.ConditionTrue, "", "docker.io/library/app:1")
				s.put(deploymentOf("web", 4, how))
				s.finish()
				old := s.uids()
				s.stuck = func(pod *corev1.Pod) bool { return pod.Spec.Containers[0].Image == "app:2" }
				s.changeTemplate("web", "app:2")
				for s.step(rapid.IntRange(0, 1<<20).Draw(rt, "pick")) {
				}
				s.mustAllBeReady(old)
				if got := s.askedToPull(); got["n1"] != "app:2" || got["n2"] != "app:2" {
					t.Fatalf("nodes are asked for %v, want app:2 on both", got)
				}
				s.stuck = func(*corev1.Pod) bool { return false }
				s.pullsAhead(corev1.ConditionTrue, "", "app:1", "app:2")
				s.finish()
				s.mustBeComplete("web", 4)
				if got := s.askedToPull(); len(got) > 0 {
					t.Errorf("nodes are still asked for %v", got)
				}
			})
		})
	}
}

func (s *sim) mustAllBeReady(uids []string) {
	s.t.Helper()
	ready := map[string]bool{}
	for _, pod := range s.pods() {
		_, ok := podcontrol.Ready(pod)
		ready[string(pod.UID)] = ok && podcontrol.Active(pod)
	}
	for _, uid := range uids {
		if !ready[uid] {
			s.t.Fatalf("a healthy Pod was stopped: %v", s.describe())
		}
	}
}

func TestFailedPullKeepsTheOldPodsAndSaysWhy(t *testing.T) {
	s := newSim(t, deployment.Controller(), deployment.Prepull(), replicaset.Controller())
	s.pullsAhead(corev1.ConditionTrue, "", "app:1")
	s.put(deploymentOf("web", 2, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}))
	s.finish()
	old := s.uids()
	s.changeTemplate("web", "app:broken")
	s.finish()
	s.pullsAhead(corev1.ConditionFalse, "app:broken: manifest unknown", "app:1")
	s.finish()
	s.mustAllBeReady(old)
	if got := s.condition("web", appsv1.DeploymentProgressing).Message; !strings.Contains(got, "manifest unknown") {
		t.Errorf("Progressing says %q, want the error of the pull in it", got)
	}
	s.now = s.now.Add(601e9)
	s.finish()
	c := s.condition("web", appsv1.DeploymentProgressing)
	if c.Reason != "ProgressDeadlineExceeded" || c.Status != corev1.ConditionFalse {
		t.Errorf("after the deadline Progressing is %+v", c)
	}
	s.mustAllBeReady(old)
	s.changeTemplate("web", "app:1")
	s.finish()
	s.mustAllBeReady(old)
	s.mustBeComplete("web", 2)
}
