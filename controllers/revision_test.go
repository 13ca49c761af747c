package controllers_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/revision"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestRevisionRepeatsWhatAProbeSays(t *testing.T) {
	s := newSim(t, all()...)
	pod := s.unready()
	s.fail(pod, "connection refused")
	s.now = s.now.Add(time.Second)
	s.fail(pod, "HTTP 503")
	s.live()
	s.waitsFor(pod, "HTTP 503")
}

// Nothing but the Event itself makes the controller look again.
func TestRevisionFollowsWhatProbesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, all()...)
		pod := s.unready()
		run(t, s.store, func() {
			synctest.Wait()
			for _, said := range []string{"connection refused", "HTTP 503"} {
				s.now = s.now.Add(time.Second)
				s.fail(pod, said)
				synctest.Wait()
				s.waitsFor(pod, said)
			}
		}, revision.Controller())
	})
}

// unready activates a Deployment whose only Pod runs and never becomes ready.
func (s *sim) unready() *corev1.Pod {
	s.t.Helper()
	s.stuck = func(*corev1.Pod) bool { return true }
	s.activate("one", deploymentOf("web", 1, strategy("1", "0")))
	s.live()
	pod := s.pods()[0].DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	statetest.Update(s.t, s.store, func(tx *state.Txn) { tx.SetStatus(pod) })
	return pod
}

// fail is what an agent writes when a probe fails.
func (s *sim) fail(pod *corev1.Pod, said string) {
	s.t.Helper()
	s.put(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", s.now.Unix())}, Type: corev1.EventTypeWarning,
		Reason: "Unhealthy", Message: "Readiness probe failed: " + said, LastTimestamp: metav1.NewTime(s.now),
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod.Name, UID: pod.UID}})
}

// waitsFor fails unless the revision waits for a Pod whose probe said that.
func (s *sim) waitsFor(pod *corev1.Pod, said string) {
	s.t.Helper()
	want := "Deployment default/web: 0 of 1 updated Pods available: Pod " + pod.Name + ": running, not ready: Readiness probe failed: " + said
	if got := s.revision("one"); got.Phase != object.RevisionActive || got.Message != want {
		s.t.Errorf("%s %q, want %q", got.Phase, got.Message, want)
	}
}

func TestOnlyTheLast100RevisionsStay(t *testing.T) {
	s := newSim(t, all()...)
	for i := range 130 {
		s.put(&object.Revision{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}, Spec: object.RevisionSpec{Sequence: int64(i)}})
	}
	s.settle()
	if got := state.Len[*object.Revision](s.store.View()); got != 100 {
		t.Errorf("%d Revisions", got)
	}
	if _, ok := state.Get[*object.Revision](s.store.View(), state.Key{Name: "r129"}); !ok {
		t.Error("the newest is gone")
	}
}
