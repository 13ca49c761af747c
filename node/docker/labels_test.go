package docker

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Two things keep other clusters' containers out, and each must do so alone: what the engine is asked for, and what is made of its answer.
func TestP12LabelsOfAnotherClusterAreNotOurs(t *testing.T) {
	ours, theirs := &Runtime{config: Config{Cluster: "ours"}}, &Runtime{config: Config{Cluster: "theirs"}}
	labels, err := theirs.labels(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u1"}}, "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, mine := theirs.identify(labels); !mine {
		t.Error("a cluster does not know its own labels")
	}
	if id, mine := ours.identify(labels); mine {
		t.Errorf("another cluster's container is taken for %+v", id)
	}
	if asked := ours.ours("more=1").Get("label"); len(asked) != 2 || !ours.ours().ExactMatch("label", labelCluster+"=ours") {
		t.Errorf("the engine is asked for containers with %q, not for those of this cluster alone", asked)
	}
}
