package controllers_test

import (
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
)

func strategy(surge, unavailable string) appsv1.DeploymentStrategy {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u},
	}
}

// bounds are what Kubernetes makes of a strategy for some number of replicas.
type bounds struct{ surge, unavailable int }

var boundsOf = map[string]struct {
	surge, unavailable string
	of10, of3          bounds
}{
	"default":       {"25%", "25%", bounds{3, 2}, bounds{1, 0}},
	"no surge":      {"0", "1", bounds{0, 1}, bounds{0, 1}},
	"all available": {"1", "0", bounds{1, 0}, bounds{1, 0}},
	"tiny percents": {"0%", "1%", bounds{0, 1}, bounds{0, 1}},
	"everything":    {"100%", "100%", bounds{10, 10}, bounds{3, 3}},
}

func TestRolloutStaysWithinItsBoundsInEveryOrder(t *testing.T) {
	for name, tc := range boundsOf {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // mostly a wait for the store's writer
			rapid.Check(t, func(rt *rapid.T) {
				replicas, limit := int32(10), tc.of10
				if rapid.Bool().Draw(rt, "few") {
					replicas, limit = 3, tc.of3
				}
				s := newSim(t, deployment.Controller(), replicaset.Controller())
				s.put(deploymentOf("web", replicas, strategy(tc.surge, tc.unavailable)))
				s.finish()
				templates := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 2).Draw(rt, "templates")
				for _, version := range templates {
					s.changeTemplate("web", fmt.Sprint("app:", version))
					for range rapid.IntRange(0, 40).Draw(rt, "steps") {
						s.step(rapid.IntRange(0, 1<<20).Draw(rt, "pick"))
						s.mustKeep(int(replicas), limit)
					}
				}
				for i := 0; s.step(i * 7919); i++ {
					s.mustKeep(int(replicas), limit)
				}
				s.mustBeComplete("web", replicas)
			})
		})
	}
}

func TestRecreateNeverRunsTwoTemplatesAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSim(t, deployment.Controller(), replicaset.Controller())
		s.put(deploymentOf("web", 4, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}))
		s.finish()
		s.changeTemplate("web", "app:2")
		for s.step(rapid.IntRange(0, 1<<20).Draw(rt, "pick")) {
			images := map[string]bool{}
			for _, pod := range s.pods() {
				images[pod.Spec.Containers[0].Image] = true
			}
			if len(images) > 1 {
				t.Fatalf("old and new Pods at once: %v", s.describe())
			}
		}
		s.mustBeComplete("web", 4)
	})
}

func TestRollbackReturnsToTheOldReplicaSet(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 2, strategy("1", "0")))
	s.finish()
	first := s.current("web")
	s.changeTemplate("web", "app:2")
	s.finish()
	s.changeTemplate("web", "app:1")
	s.finish()
	back := s.current("web")
	if back.Name != first.Name || back.UID != first.UID {
		t.Errorf("rolled back to %s, want %s", back.Name, first.Name)
	}
	if got := back.Annotations["deployment.kubernetes.io/revision"]; got != "3" {
		t.Errorf("revision of the old ReplicaSet = %s, want 3", got)
	}
	if got := back.Annotations["deployment.kubernetes.io/revision-history"]; got != "1" {
		t.Errorf("revision history = %q, want 1", got)
	}
	if got := s.deployment("web").Annotations["deployment.kubernetes.io/revision"]; got != "3" {
		t.Errorf("revision of the Deployment = %s, want 3", got)
	}
}

func TestOnlyATemplateChangeTouchesPods(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 3, strategy("25%", "25%")))
	s.finish()
	before := s.uids()
	s.change("web", func(d *appsv1.Deployment) {
		d.Labels = map[string]string{"team": "a"}
		d.Annotations["note"] = "moved"
		d.Spec.MinReadySeconds = 5
	})
	s.finish()
	if after := s.uids(); !slices.Equal(before, after) {
		t.Errorf("Pods changed: %v, were %v", after, before)
	}
	s.change("web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 5 })
	s.finish()
	for _, uid := range before {
		if !slices.Contains(s.uids(), uid) {
			t.Errorf("Pod %s is gone after scaling up", uid)
		}
	}
	if got := len(s.uids()); got != 5 {
		t.Errorf("%d Pods, want 5", got)
	}
}

func TestTemplateAndScaleAtOnceStartNoPodOfTheOldTemplate(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 3, strategy("1", "0")))
	s.finish()
	old := s.uids()
	s.change("web", func(d *appsv1.Deployment) {
		*d.Spec.Replicas = 6
		d.Spec.Template.Spec.Containers[0].Image = "app:2"
	})
	for i := 0; s.step(i); i++ {
		for _, pod := range s.pods() {
			if pod.Spec.Containers[0].Image == "app:1" && !slices.Contains(old, string(pod.UID)) {
				t.Fatalf("a Pod of the old template was started: %s", pod.Name)
			}
		}
	}
	s.mustBeComplete("web", 6)
}

func TestPausedDeploymentScalesButDoesNotRoll(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	s.put(deploymentOf("web", 2, strategy("1", "0")))
	s.finish()
	s.change("web", func(d *appsv1.Deployment) {
		d.Spec.Paused = true
		*d.Spec.Replicas = 4
		d.Spec.Template.Spec.Containers[0].Image = "app:2"
	})
	s.finish()
	for _, pod := range s.pods() {
		if got := pod.Spec.Containers[0].Image; got != "app:1" {
			t.Errorf("Pod of %s while paused", got)
		}
	}
	if got := len(s.pods()); got != 4 {
		t.Errorf("%d Pods, want 4", got)
	}
	if got := s.condition("web", appsv1.DeploymentProgressing).Reason; got != "DeploymentPaused" {
		t.Errorf("Progressing says %s", got)
	}
	s.change("web", func(d *appsv1.Deployment) { d.Spec.Paused = false })
	s.finish()
	s.mustBeComplete("web", 4)
}

func TestHistoryIsLimited(t *testing.T) {
	s := newSim(t, deployment.Controller(), replicaset.Controller())
	d := deploymentOf("web", 1, strategy("1", "0"))
	limit := int32(2)
	d.Spec.RevisionHistoryLimit = &limit
	s.put(d)
	s.finish()
	for version := range 5 {
		s.changeTemplate("web", fmt.Sprint("app:", version+2))
		s.finish()
	}
	if got := len(s.replicaSets()); got != 3 {
		t.Errorf("%d ReplicaSets, want the current one and 2 old", got)
	}
}
