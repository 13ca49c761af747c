package cli

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(now time.Time, before time.Duration) *metav1.Time {
	t := metav1.NewTime(now.Add(-before))
	return &t
}

func converged(now time.Time) *object.Revision {
	r := revision(commit1, 1, object.RevisionConverged)
	r.Spec.Subject, r.Spec.CommitTime = "Run four web servers", *at(now, time.Hour)
	r.Status.FetchedAt, r.Status.ActivatedAt, r.Status.EndedAt = at(now, time.Hour), at(now, time.Hour), at(now, time.Hour-12*time.Second)
	return r
}

func rejected(now time.Time) *object.Revision {
	r := revision(commit2, 2, object.RevisionRejected)
	r.Spec.Subject, r.Spec.CommitTime = "Raise the limit", *at(now, 2*time.Minute)
	r.Status.FetchedAt, r.Status.ActivatedAt, r.Status.EndedAt = at(now, time.Minute), nil, at(now, time.Minute)
	r.Status.Problems = []object.Problem{
		{Path: "apps/web.yaml", Line: 12, Column: 5, Object: "Deployment default/web", Field: "spec.replica", Message: `unknown field; did you mean "replicas"?`},
		{Path: "big.yaml", Message: "is 2097152 bytes large; at most 1048576 are read"},
	}
	r.Status.ProblemsAll = 7
	return r
}

func crashing(name string) *corev1.Pod {
	p := readyPod("default", name)
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "web", RestartCount: 3,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 40s restarting failed container"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}}}
	return p
}

func unschedulable(name string) *corev1.Pod {
	p := readyPod("default", name)
	p.Spec.NodeName, p.Status = "", corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/2 nodes are available: 2 Insufficient cpu."}}}
	return p
}

func busyFacts(now time.Time) *facts {
	web := deployment("web", 4, 2)
	broken := node("n2")
	broken.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "the agent has not been heard of for 40s"}
	warning := &corev1.Event{ObjectMeta: meta("default", "e1"), Type: corev1.EventTypeWarning, Reason: "BackOff", Count: 3,
		Message: "back-off 40s restarting failed container", LastTimestamp: *at(now, 20*time.Second),
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web-abc-3"}}
	old := warning.DeepCopy()
	old.LastTimestamp = *at(now, 3*time.Hour)
	return &facts{
		cluster:     *clusterAt(commit1, commit1[:12]),
		revisions:   []*object.Revision{converged(now)},
		nodes:       []*corev1.Node{node("n1"), broken},
		deployments: []*appsv1.Deployment{web, deployment("api", 1, 1)},
		replicaSets: []*appsv1.ReplicaSet{owned(replicaSet("web-abc"), "Deployment", "apps/v1", "web", "uid-web")},
		pods: []*corev1.Pod{
			owned(readyPod("default", "web-abc-1"), "ReplicaSet", "apps/v1", "web-abc", "uid-rs"),
			owned(unschedulable("web-abc-2"), "ReplicaSet", "apps/v1", "web-abc", "uid-rs"),
			owned(crashing("web-abc-3"), "ReplicaSet", "apps/v1", "web-abc", "uid-rs"),
			unschedulable("alone"),
		},
		events: []*corev1.Event{old, warning},
	}
}

func TestStatusOnOneScreen(t *testing.T) {
	calm := &facts{cluster: *clusterAt(commit1, commit1[:12]), revisions: []*object.Revision{converged(noon)},
		nodes: []*corev1.Node{node("n1")}, pods: []*corev1.Pod{readyPod("default", "web-1")}}
	refused := busyFacts(noon)
	refused.cluster.Status.Head = commit2
	refused.revisions = append(refused.revisions, rejected(noon))
	unreadable := busyFacts(noon)
	unreadable.cluster.Status.Error, unreadable.cluster.Status.ErrorAt = "the branch main is gone", at(noon, time.Minute)
	rolling := busyFacts(noon)
	rolling.revisions[0].Status.Phase, rolling.revisions[0].Status.EndedAt = object.RevisionActive, nil
	rolling.revisions[0].Status.Message = "deployment default/web: 2 of 4 replicas are ready"
	for name, f := range map[string]*facts{
		"status-calm": calm, "status-busy": busyFacts(noon), "status-rejected": refused, "status-unreadable": unreadable, "status-rolling": rolling,
		"status-empty": {cluster: object.Cluster{}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := printStatus(&b, f.status(noon), noon); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
		})
	}
}

func TestStatusOfPodsBeingRemoved(t *testing.T) {
	leaving := crashing("alone")
	leaving.DeletionTimestamp = at(noon, time.Second)
	f := &facts{cluster: *clusterAt(commit1, commit1[:12]), revisions: []*object.Revision{converged(noon)}, pods: []*corev1.Pod{leaving}}
	if got := f.status(noon); !got.Converged || len(got.NotReady) != 0 {
		t.Errorf("converged = %v, not ready: %+v; want nothing but what is meant to stay", got.Converged, got.NotReady)
	}
	leaving.DeletionTimestamp = nil
	if got := f.status(noon); got.Converged {
		t.Error("converged with a Pod that crashes")
	}
}

func TestStatusOfANodeWhoseEngineIsDown(t *testing.T) {
	n := node("n1")
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "EngineResponsive", Status: corev1.ConditionFalse, Message: "docker info: no answer"})
	got := (&facts{nodes: []*corev1.Node{n}}).status(noon).Nodes
	if got.Ready != 1 || len(got.NotReady) != 1 || got.NotReady[0].Reason != "its container engine does not answer: docker info: no answer" {
		t.Errorf("nodes: %+v", got)
	}
}

func TestStatusExitCode(t *testing.T) {
	c := startCluster(t, clusterAt(commit1, commit1[:12]), revision(commit1, 1, object.RevisionConverged))
	if got := c.run(t, "status"); got.code != 0 {
		t.Errorf("converged: code %d\n%s%s", got.code, got.out, got.err)
	}
	c = startCluster(t, clusterAt(commit2, commit1[:12]), revision(commit1, 1, object.RevisionConverged))
	if got := c.run(t, "status", "-o", "yaml"); got.code != 1 || !strings.Contains(got.out, "why: the branch's head 2222222 is being taken in") {
		t.Errorf("behind: code %d\n%s%s", got.code, got.out, got.err)
	}
}

func TestStatusCountsPodsBeingRemovedApart(t *testing.T) {
	leaving := readyPod("default", "web-1")
	leaving.DeletionTimestamp = at(noon, time.Second)
	got := podsText(podSummary([]*corev1.Pod{leaving, readyPod("default", "web-2")}))
	if want := "1 of 1 ready · 1 Running, 1 Terminating"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// unready is a Pod of web's ReplicaSet that runs, and the event of its failed probe.
func unready(name string) (*corev1.Pod, *corev1.Event) {
	p := readyPod("default", name)
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	e := &corev1.Event{ObjectMeta: meta("default", "probe."+name), Type: corev1.EventTypeWarning, Reason: "Unhealthy",
		Message: "Readiness probe failed: HTTP 503", LastTimestamp: *at(noon, time.Second), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: name}}
	return owned(p, "ReplicaSet", "apps/v1", "web-abc", "uid-rs"), e
}

func TestStatusOfARolloutWhoseProbeFails(t *testing.T) {
	web := deployment("web", 3, 3)
	web.Status.Replicas, web.Status.UpdatedReplicas = 4, 1
	pod, event := unready("web-abc-1")
	active := revision(commit1, 1, object.RevisionActive)
	active.Status.Message = "Deployment default/web: 1 of 3 Pods updated: Pod web-abc-1: running, not ready: Readiness probe failed: HTTP 503 (and 1 more)"
	f := &facts{cluster: *clusterAt(commit1, commit1[:12]), revisions: []*object.Revision{active}, deployments: []*appsv1.Deployment{web},
		replicaSets: []*appsv1.ReplicaSet{owned(replicaSet("web-abc"), "Deployment", "apps/v1", "web", "uid-web")},
		pods:        []*corev1.Pod{pod}, events: []*corev1.Event{event}}
	var b strings.Builder
	if err := printStatus(&b, f.status(noon), noon); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"● Not converged: Deployment default/web: 1 of 3 Pods updated (and 1 more)\n",
		"deployment/web   1 of 3 updated   web-abc-1: running, not ready: Readiness probe failed: HTTP 503\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

func TestStatusLeavesOutWarningsThatAreOver(t *testing.T) {
	now, itsProbe := unready("now")
	_, goneProbe := unready("gone")
	better, over := unready("better")
	better.Status.Conditions[0].Status = corev1.ConditionTrue
	replaced, before := unready("replaced")
	replaced.UID, before.InvolvedObject.UID = "new", "old"
	f := &facts{pods: []*corev1.Pod{now, better, replaced}, events: []*corev1.Event{itsProbe, goneProbe, over, before}}
	got := f.latestWarnings(noon)
	if len(got) != 1 || got[0].Object != "pod/now" {
		t.Errorf("warnings: %+v, want that of pod/now alone", got)
	}
}
