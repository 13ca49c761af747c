package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// nodes follows the Pods and does at once what scheduler and nodes do, until ctx ends.
func (s *sim) nodes(ctx context.Context, feed *state.Feed[*corev1.Pod]) {
	buf := make([]state.Change[*corev1.Pod], 64)
	for {
		n, err := feed.Next(ctx, buf)
		if err != nil {
			return
		}
		for i, c := range buf[:n] {
			if c.New != nil {
				s.nudge(ctx, state.KeyOf(c.New), i)
			}
		}
	}
}

func (s *sim) nudge(ctx context.Context, key state.Key, i int) {
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		pod, ok := state.Get[*corev1.Pod](tx, key)
		if ok {
			s.act(tx, pod.DeepCopy(), i)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrConflict) {
		s.t.Errorf("nudge %s: %v", key, err)
	}
}

// awaitPhase waits until a Revision has a phase.
func (s *sim) awaitPhase(name, phase string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	snap := s.store.View()
	feed := state.Changes[*object.Revision](s.store, snap.Version)
	buf := make([]state.Change[*object.Revision], 64)
	for {
		if rev, ok := state.Get[*object.Revision](s.store.View(), state.Key{Name: name}); ok && rev.Status.Phase == phase {
			return
		}
		if _, err := feed.Next(ctx, buf); err != nil {
			s.t.Fatalf("revision %s is %+v: %v", name, s.revision(name), err)
		}
	}
}

// All controllers at once, as they run on a leader: every Deployment is rolled within its bounds, and others' Pods stay.
func TestAllControllersTogetherRollManyDeployments(t *testing.T) {
	const deployments, replicas = 20, 5
	s := newSim(t, all()...)
	var objects []object.Object
	for i := range deployments {
		objects = append(objects, deploymentOf(fmt.Sprint("web", i), replicas, strategy("25%", "25%")))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	feed := state.Changes[*corev1.Pod](s.store, s.store.View().Version)
	go func() {
		defer close(ended)
		s.nodes(ctx, feed)
	}()
	run(t, s.store, func() {
		s.activate("one", objects...)
		s.awaitPhase("one", object.RevisionConverged)
		kept := map[string]bool{}
		for _, pod := range s.pods() {
			if pod.DeletionTimestamp == nil {
				kept[string(pod.UID)] = pod.Labels["app"] != "web0" && pod.Labels["app"] != "web1"
			}
		}
		s.activate("two")
		s.changeTemplate("web0", "app:2")
		s.changeTemplate("web1", "app:2")
		s.awaitRollout("web0")
		s.awaitRollout("web1")
		s.awaitPhase("two", object.RevisionConverged)
		s.mustHave(kept)
	}, s.controllers...)
	cancel()
	<-ended
}

// awaitRollout waits as kubectl does.
func (s *sim) awaitRollout(name string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	feed := state.Changes[*appsv1.Deployment](s.store, s.store.View().Version)
	buf := make([]state.Change[*appsv1.Deployment], 64)
	for {
		d := s.deployment(name)
		st, wanted := d.Status, *d.Spec.Replicas
		if st.ObservedGeneration >= d.Generation && st.UpdatedReplicas == wanted && st.Replicas == wanted && st.AvailableReplicas == wanted {
			return
		}
		if _, err := feed.Next(ctx, buf); err != nil {
			s.t.Fatalf("%s: %+v: %v", name, st, err)
		}
	}
}

// mustHave fails unless exactly those Pods whose value is true are still there and ready.
func (s *sim) mustHave(kept map[string]bool) {
	s.t.Helper()
	left := map[string]bool{}
	for _, pod := range s.pods() {
		_, ready := podcontrol.Ready(pod)
		left[string(pod.UID)] = ready && podcontrol.Active(pod)
	}
	for uid, want := range kept {
		if left[uid] != want {
			s.t.Errorf("Pod %s is there: %t, want %t", uid, left[uid], want)
		}
	}
}
