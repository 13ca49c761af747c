package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func healthy(n int) func(o *observed) {
	return func(o *observed) {
		o.track("app").Health = health{ID: "id" + string(rune('0'+n)), Started: true, Ready: true, Probed: true}
	}
}

func TestContainerStatus(t *testing.T) {
	at := func(ago time.Duration) metav1.Time { return metav1.NewTime(t0.Add(10*time.Minute - ago)) }
	began := metav1.NewTime(t0.Add(time.Minute))
	crashed := &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", StartedAt: began, FinishedAt: at(time.Second), ContainerID: "docker://id1"}
	for name, tc := range map[string]struct {
		pod         *corev1.Pod
		seen        *observed
		state, last corev1.ContainerState
		ready       bool
		restarts    int32
	}{
		"not begun": {aPod("p"), seen(), corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}, corev1.ContainerState{}, false, 0},
		"no sandbox": {aPod("p"), seen(func(o *observed) { o.SandboxHold.Message = "no address" }),
			corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: "no address"}}, corev1.ContainerState{}, false, 0},
		"running":                     {aPod("p"), seen(sandboxed, made(0), healthy(0)), corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}, corev1.ContainerState{}, true, 0},
		"frozen":                      {aPod("p"), seen(sandboxed, made(0, func(a *attempt) { a.State = runtime.Paused }), healthy(0)), corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}, corev1.ContainerState{}, false, 0},
		"running without its sandbox": {aPod("p"), seen(made(0), healthy(0)), corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}, corev1.ContainerState{}, false, 0},
		"crashing": {aPod("p"), seen(sandboxed, made(1, exited(1, time.Second)), func(o *observed) { o.track("app").Backoff.Delay = 20 * time.Second }),
			corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 20s restarting failed container=app pod=p_default(uid-p)"}},
			corev1.ContainerState{Terminated: crashed}, false, 1},
		"to be restarted now": {aPod("p"), seen(sandboxed, made(1, exited(1, time.Second))), corev1.ContainerState{Terminated: crashed}, corev1.ContainerState{}, false, 1},
		"running again":       {aPod("p"), seen(sandboxed, made(1, exited(1, time.Second)), made(2), healthy(2)), corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}, corev1.ContainerState{Terminated: crashed}, true, 2},
		"vanished": {aPod("p", policy(corev1.RestartPolicyNever)), seen(sandboxed, made(1, exited(137, time.Second), func(a *attempt) { a.Unknown = true })),
			corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown", Message: messageLost, StartedAt: began, FinishedAt: at(time.Second), ContainerID: "docker://id1"}},
			corev1.ContainerState{}, false, 1},
		"pull failed":    {aPod("p"), seen(failedPull(0)), corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such host"}}, corev1.ContainerState{}, false, 0},
		"pull backs off": {aPod("p"), seen(failedPull(4 * time.Second)), corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "example.com/app:1": ErrImagePull: no such host`}}, corev1.ContainerState{}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := podStatus(desired{Pod: tc.pod}, tc.seen).ContainerStatuses[0]
			if diff := cmp.Diff(tc.state, s.State); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.last, s.LastTerminationState); diff != "" {
				t.Errorf("last state (-want +got):\n%s", diff)
			}
			if s.Ready != tc.ready || s.RestartCount != tc.restarts {
				t.Errorf("ready = %v, restarts = %d, want %v, %d", s.Ready, s.RestartCount, tc.ready, tc.restarts)
			}
		})
	}
}

func TestPhase(t *testing.T) {
	other := func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other"}) }
	otherRuns := func(o *observed) {
		o.Attempts["other"] = []attempt{{Container: runtime.Container{ID: "x", Name: "other", State: runtime.Running, Created: t0.Add(time.Second), Started: t0.Add(time.Second)}}}
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		seen *observed
		want corev1.PodPhase
	}{
		"nothing":                    {aPod("p"), seen(), corev1.PodPending},
		"one of two":                 {aPod("p", other), seen(sandboxed, made(0)), corev1.PodPending},
		"running":                    {aPod("p"), seen(sandboxed, made(0)), corev1.PodRunning},
		"crashing":                   {aPod("p"), seen(sandboxed, made(0, exited(1, 0))), corev1.PodRunning},
		"one crashed, one runs":      {aPod("p", other), seen(sandboxed, made(0, exited(1, 0)), otherRuns), corev1.PodRunning},
		"never, failed, other runs":  {aPod("p", other, policy(corev1.RestartPolicyNever)), seen(sandboxed, made(0, exited(1, 0)), otherRuns), corev1.PodRunning},
		"never, failed":              {aPod("p", policy(corev1.RestartPolicyNever)), seen(sandboxed, made(0, exited(1, 0))), corev1.PodFailed},
		"never, succeeded":           {aPod("p", policy(corev1.RestartPolicyNever)), seen(sandboxed, made(0, exited(0, 0))), corev1.PodSucceeded},
		"on failure, succeeded":      {aPod("p", policy(corev1.RestartPolicyOnFailure)), seen(sandboxed, made(0, exited(0, 0))), corev1.PodSucceeded},
		"on failure, failed":         {aPod("p", policy(corev1.RestartPolicyOnFailure)), seen(sandboxed, made(0, exited(2, 0))), corev1.PodRunning},
		"deleted, ended":             {aPod("p", deleted), seen(sandboxed, made(0, exited(0, 0))), corev1.PodSucceeded},
		"failed stays failed":        {aPod("p"), seen(sandboxed, made(0), func(o *observed) { o.Last.Phase = corev1.PodFailed }), corev1.PodFailed},
		"succeeded outlives its day": {aPod("p", deadlined(1)), seen(func(o *observed) { o.Last.Phase = corev1.PodSucceeded }), corev1.PodSucceeded},
		"too long":                   {aPod("p", deadlined(1)), seen(sandboxed, made(0)), corev1.PodFailed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := podStatus(desired{Pod: tc.pod}, tc.seen).Phase; got != tc.want {
				t.Errorf("phase = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestConditionsKeepTheirTimesAndOthers(t *testing.T) {
	o := seen(sandboxed, made(0), healthy(0))
	long := metav1.NewTime(t0.Add(-time.Hour))
	foreign := corev1.PodCondition{Type: "example.com/gate", Status: corev1.ConditionTrue, LastTransitionTime: long}
	o.Last.Conditions = []corev1.PodCondition{
		foreign,
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long},
		{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, LastTransitionTime: long},
	}
	got := map[corev1.PodConditionType]corev1.PodCondition{}
	for _, c := range podStatus(desired{Pod: aPod("p")}, o).Conditions {
		got[c.Type] = c
	}
	if diff := cmp.Diff(foreign, got["example.com/gate"]); diff != "" {
		t.Errorf("foreign condition (-want +got):\n%s", diff)
	}
	if c := got[corev1.PodReady]; c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Equal(&long) {
		t.Errorf("Ready = %+v, want True since then", c)
	}
	if c := got[corev1.ContainersReady]; c.Status != corev1.ConditionTrue || c.LastTransitionTime.Equal(&long) {
		t.Errorf("ContainersReady = %+v, want True since now", c)
	}
	if got[corev1.PodInitialized].Status != corev1.ConditionTrue || got[corev1.PodReadyToStartContainers].Status != corev1.ConditionTrue || got[corev1.PodScheduled].Status != corev1.ConditionTrue {
		t.Errorf("conditions = %+v", got)
	}
}

func TestUnreadyContainersAreNamed(t *testing.T) {
	s := podStatus(desired{Pod: aPod("p")}, seen(sandboxed, made(0)))
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady && (c.Status != corev1.ConditionFalse || c.Reason != "ContainersNotReady" || c.Message != "containers with unready status: [app]") {
			t.Errorf("Ready = %+v", c)
		}
	}
}
