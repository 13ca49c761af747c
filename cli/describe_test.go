package cli

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

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
	want := `Source:         apps/web.yaml:12 · commit 1111111 by Ada Lovelace
                "Change 11", 5h ago
                for deployment/web, which is declared there
Name:           web-abc-1
Namespace:      default
`
	if got.code != 0 || !strings.HasPrefix(got.out, want) {
		t.Errorf("code %d, stderr %q, output:\n%s", got.code, got.err, got.out)
	}
}

// Kubernetes' describers ask for many related objects; none of them may need something Mainstay does not serve.
func TestDescribeWorksForEveryKind(t *testing.T) {
	c := startCluster(t, readyPod("default", "x"), deployment("x", 1, 1), node("x"), clusterAt(commit1, commit1[:12]),
		&corev1.Namespace{ObjectMeta: meta("", "x")}, &corev1.ConfigMap{ObjectMeta: meta("default", "x"), Data: map[string]string{"k": "v"}},
		&corev1.Secret{ObjectMeta: meta("default", "x"), Data: map[string][]byte{"k": []byte("topsecret")}},
		&corev1.Service{ObjectMeta: meta("default", "x")}, &corev1.Event{ObjectMeta: meta("default", "x")},
		replicaSet("x"),
		&discoveryv1.EndpointSlice{ObjectMeta: meta("default", "x"), AddressType: discoveryv1.AddressTypeIPv4},
		revision(commit1, 1, object.RevisionConverged), declared(object.KindFor[*corev1.Pod](), "default", "x"))
	for _, k := range object.Kinds() {
		got := c.run(t, "describe", k.Resource)
		if got.code != 0 || !strings.Contains(got.out, "Name") && !strings.Contains(got.out, "name:") || strings.Contains(got.out, "rror") || strings.Contains(got.out, "Failed to") || strings.Contains(got.out, "topsecret") {
			t.Errorf("describe %s: code %d, stderr %q, output:\n%s", k.Resource, got.code, got.err, got.out)
		}
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
	if got := describeRevision(failed, noon); !strings.Contains(got, "Took:             -\n") {
		t.Errorf("got:\n%s", got)
	}
}
