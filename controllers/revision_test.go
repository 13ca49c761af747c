package controllers_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestRevisionRepeatsWhatAProbeSays(t *testing.T) {
	s := newSim(t, all()...)
	s.stuck = func(*corev1.Pod) bool { return true }
	s.activate("one", deploymentOf("web", 1, strategy("1", "0")))
	s.live()
	pod := s.pods()[0].DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	statetest.Update(t, s.store, func(tx *state.Txn) { tx.SetStatus(pod) })
	for i, said := range []string{"connection refused", "HTTP 503"} {
		s.put(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i)}, Type: corev1.EventTypeWarning,
			Reason: "Unhealthy", Message: "Readiness probe failed: " + said, LastTimestamp: metav1.NewTime(s.now.Add(time.Duration(i) * time.Second)),
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod.Name, UID: pod.UID}})
	}
	s.live()
	want := "Deployment default/web: 0 of 1 updated Pods available: Pod " + pod.Name + ": running, not ready: Readiness probe failed: HTTP 503"
	if got := s.revision("one"); got.Phase != object.RevisionActive || got.Message != want {
		t.Errorf("%s %q, want %q", got.Phase, got.Message, want)
	}
}
