package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// declared is the Source of an object.
func declared(k object.Kind, namespace, name string) *object.Source {
	return &object.Source{ObjectMeta: meta(namespace, object.SourceName(k, name)), Spec: object.SourceSpec{
		APIVersion: k.GroupVersion().String(), Kind: k.Kind, Name: name, Commit: commit1, Author: "Ada Lovelace <ada@example.org>",
		Path: "apps/web.yaml", Line: 12,
	}}
}

func TestDescribeTracesAPodToItsCommit(t *testing.T) {
	web := deployment("web", 1, 1)
	set := replicaSet("web-abc")
	c := startCluster(t, web, owned(set, "Deployment", "apps/v1", "web", "uid-web"),
		owned(readyPod("default", "web-abc-1"), "ReplicaSet", "apps/v1", "web-abc", "uid-rs"),
		declared(object.KindOf(web), "default", "web"), revision(commit1, 1, object.RevisionConverged))
	got := c.run(t, "describe", "pod", "web-abc-1")
	want := `Source:            apps/web.yaml:12 · commit 1111111 by Ada Lovelace
                   "Change 11", 5h ago
                   for deployment/web, which is declared there
Name:              web-abc-1
Namespace:         default
Controlled By:     ReplicaSet/web-abc
`
	if got.code != 0 || !strings.HasPrefix(got.out, want) {
		t.Errorf("code %d, stderr %q, output:\n%s", got.code, got.err, got.out)
	}
}

// What runs on a node is of any namespace, whichever one the reader looks at.
func TestDescribeANodeShowsPodsOfEveryNamespace(t *testing.T) {
	n1 := node("n1")
	n1.Status.NodeInfo.ContainerRuntimeVersion = "docker://20.10"
	c := startCluster(t, n1, readyPod("default", "here"), readyPod("shop", "there"), &corev1.Namespace{ObjectMeta: meta("", "shop")})
	for _, args := range [][]string{{"node", "n1"}, {"node"}, {"node", "n1", "-n", "shop"}} {
		got := c.run(t, append([]string{"describe"}, args...)...)
		if got.code != 0 || !strings.Contains(got.out, "default     here") || !strings.Contains(got.out, "shop        there") || !strings.Contains(got.out, "Container-Runtime: docker://20.10") {
			t.Errorf("describe %v: code %d, stderr %q, output:\n%s", args, got.code, got.err, got.out)
		}
	}
}

// A description asks for related objects; none of them may need something Mainstay does not serve.
func TestDescribeWorksForEveryKind(t *testing.T) {
	c := startCluster(t, readyPod("default", "x"), deployment("x", 1, 1), node("x"), clusterAt(commit1, commit1[:12]),
		&corev1.Namespace{ObjectMeta: meta("", "x")}, &corev1.ConfigMap{ObjectMeta: meta("default", "x"), Data: map[string]string{"k": "v"}},
		&corev1.Secret{ObjectMeta: meta("default", "x"), Data: map[string][]byte{"k": []byte("topsecret")}},
		&corev1.Service{ObjectMeta: meta("default", "x")}, &corev1.Event{ObjectMeta: meta("default", "x")},
		replicaSet("x"),
		&discoveryv1.EndpointSlice{ObjectMeta: meta("default", "x"), AddressType: discoveryv1.AddressTypeIPv4},
		&networkingv1.NetworkPolicy{ObjectMeta: meta("default", "x")}, &policyv1.PodDisruptionBudget{ObjectMeta: meta("default", "x")},
		&object.Server{ObjectMeta: meta("", "x")},
		revision(commit1, 1, object.RevisionConverged), declared(object.KindFor[*corev1.Pod](), "default", "x"))
	for _, k := range object.Kinds() {
		got := c.run(t, "describe", k.Resource)
		if got.code != 0 || !strings.Contains(got.out, "Name") && !strings.Contains(got.out, "name:") || strings.Contains(got.out, "rror") || strings.Contains(got.out, "Failed to") || strings.Contains(got.out, "topsecret") {
			t.Errorf("describe %s: code %d, stderr %q, output:\n%s", k.Resource, got.code, got.err, got.out)
		}
	}
}

func TestDescribeAPodThatIsBeingStopped(t *testing.T) {
	pod := readyPod("default", "x")
	pod.Labels = map[string]string{"app": "web", "tier": "front"}
	pod.DeletionTimestamp = &metav1.Time{Time: noon.Add(5 * time.Second)}
	d := description{obj: pod, at: place{kind: object.KindOf(pod)}, now: noon}
	d.metadata()
	want := "Labels:            app=web\n                   tier=front\nCreated:"
	if got := d.String(); !strings.Contains(got, want) || !strings.Contains(got, "Deleted:           2026-11-21T12:00:05Z (in 5s)\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestDescribeWhatDoesNotExist(t *testing.T) {
	c := startCluster(t)
	got := c.run(t, "describe", "deployment", "web")
	if got.code != 1 || got.err != "there is no deployment \"web\" in namespace default\n" {
		t.Errorf("code %d, stderr %q", got.code, got.err)
	}
}

func TestDescribeRevisionListsProblems(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	golden(t, "describe-revision", describeRevision(rejected(now), now))
}

func TestDescribeAFailedRevisionTookNoTime(t *testing.T) {
	failed := converged(noon)
	failed.Status.Phase = object.RevisionFailed
	if got := describeRevision(failed, noon); !strings.Contains(got, "Took:              -\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestDescribeShowsWhatBelongsToAnObject(t *testing.T) {
	web, other := deployment("web", 1, 1), replicaSet("web-other")
	other.UID = "uid-other"
	ended := readyPod("default", "ended")
	ended.Status.Phase = corev1.PodSucceeded
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta("default", "web-1"), AddressType: discoveryv1.AddressTypeIPv4}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	mine := owned(replicaSet("web-mine"), "Deployment", "apps/v1", "web", "uid-web")
	for _, set := range []*appsv1.ReplicaSet{mine, other} {
		set.Labels = map[string]string{"app": "web"}
	}
	c := startCluster(t, web, mine, other, node("n1"), readyPod("default", "a"), readyPod("default", "b"), ended,
		&corev1.Service{ObjectMeta: meta("default", "web")}, slice)
	for what, want := range map[string]struct{ has, hasNot string }{
		"deployment web": {has: "ReplicaSets:\n  NAME", hasNot: "web-other"},
		"node n1":        {has: "Requested:         2 of 110 Pods, cpu 1 of 2 (50%), memory 0 of 4Gi (0%)\n", hasNot: "ended"},
		"service web":    {has: "EndpointSlices:\n  NAME", hasNot: "NAMESPACE"},
		"pod a":          {has: "Spec:\n  containers:\n  - image: web:1\n", hasNot: "Pods:"},
	} {
		got := c.run(t, append([]string{"describe"}, strings.Fields(what)...)...)
		if got.code != 0 || !strings.Contains(got.out, want.has) || strings.Contains(got.out, want.hasNot) {
			t.Errorf("describe %s: code %d, stderr %q, want %q and not %q in:\n%s", what, got.code, got.err, want.has, want.hasNot, got.out)
		}
	}
}

func TestAmountsOfAMachineAreReadable(t *testing.T) {
	for in, want := range map[string]string{
		"24684084Ki": "23.5Gi", "4Gi": "4Gi", "96Mi": "96Mi", "1536Mi": "1.5Gi", "512Ki": "512Ki", "264212084Ki": "252Gi", "120m": "120m", "2": "2", "0": "0", "5G": "5G",
	} {
		if got := amount(apiresource.MustParse(in)); got != want {
			t.Errorf("amount(%s) = %s, want %s", in, got, want)
		}
	}
}

// Events of one second stand in the order in which they were written, and those of a Pod of the same name before this one are not its.
func TestDescribeShowsEventsInTheirOrder(t *testing.T) {
	pod := readyPod("default", "web")
	pod.UID = "uid-now"
	event := func(name, reason, uid string) *corev1.Event {
		e := &corev1.Event{ObjectMeta: meta("default", name), Reason: reason, LastTimestamp: metav1.NewTime(noon)}
		e.InvolvedObject = corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: typesUID(uid)}
		return e
	}
	c := startCluster(t, pod, event("z", "Pulled", "uid-now"), event("m", "Created", "uid-now"), event("a", "Started", "uid-now"), event("b", "Killing", "uid-before"))
	got := c.run(t, "describe", "pod", "web")
	_, events, _ := strings.Cut(got.out, "Events:\n")
	var reasons []string
	for line := range strings.Lines(events) {
		reasons = append(reasons, strings.Fields(line)[1])
	}
	if diff := cmp.Diff([]string{"SEEN", "Pulled", "Created", "Started"}, reasons); diff != "" {
		t.Errorf("%s\n%s", diff, got.out)
	}
}
