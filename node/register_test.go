package node

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func TestNodeDescribesItself(t *testing.T) {
	v := vitals{Networked: true, Info: runtime.Info{
		Engine: "docker://20.10", Architecture: "amd64", LiveRestore: false, ReservedOverhead: resource.MustParse("1Gi"),
		Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")},
		Images:   []corev1.ContainerImage{{Names: []string{"small"}, SizeBytes: 1}, {Names: []string{"large"}, SizeBytes: 2}},
	}}
	n := newNode(&Config{Name: "n1", Version: "v1", NodeIP: netip.MustParseAddr("192.0.2.1")}, []string{"192.0.2.1"}, v, time.Now())
	if got := n.Status.Allocatable.Memory().String(); got != "3Gi" {
		t.Errorf("allocatable memory = %s, want 3Gi", got)
	}
	if got := n.Status.Capacity.Pods().Value(); got != maxPods {
		t.Errorf("pods = %d, want %d", got, maxPods)
	}
	for label, want := range map[string]string{"kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"} {
		if n.Labels[label] != want {
			t.Errorf("label %s = %q, want %q", label, n.Labels[label], want)
		}
	}
	if n.Status.Addresses[0].Address != "192.0.2.1" || n.Status.Images[0].Names[0] != "large" {
		t.Errorf("addresses = %v, images = %v", n.Status.Addresses, n.Status.Images)
	}
	if conditionOf(n, conditionLiveRestore) != corev1.ConditionFalse || conditionOf(n, corev1.NodeReady) != corev1.ConditionTrue {
		t.Errorf("conditions = %+v", n.Status.Conditions)
	}
}

func TestNodeReadiness(t *testing.T) {
	for name, tc := range map[string]struct {
		v             vitals
		ready, engine corev1.ConditionStatus
	}{
		"fine":                     {vitals{Networked: true}, "True", "True"},
		"no addresses yet":         {vitals{}, "False", "True"},
		"engine silent for a bit":  {vitals{Networked: true, EngineError: "e", Silent: time.Second}, "True", "False"},
		"engine silent for longer": {vitals{Networked: true, EngineError: "e", Silent: time.Minute}, "False", "False"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(&Config{}, nil, tc.v, time.Now())
			if got := conditionOf(n, corev1.NodeReady); got != tc.ready {
				t.Errorf("Ready = %s, want %s", got, tc.ready)
			}
			if got := conditionOf(n, conditionEngine); got != tc.engine {
				t.Errorf("%s = %s, want %s", conditionEngine, got, tc.engine)
			}
		})
	}
}

func TestKeepTimesMakesUnchangedEqual(t *testing.T) {
	before := nodeStatus(&Config{}, nil, vitals{Networked: true}, t0)
	after := nodeStatus(&Config{}, nil, vitals{}, t0.Add(time.Hour))
	keepTimes(&after, &before)
	for i, c := range after.Conditions {
		changed := c.Type == corev1.NodeReady
		if c.LastTransitionTime.Equal(&before.Conditions[i].LastTransitionTime) == changed {
			t.Errorf("condition %s: changed at %s, before at %s", c.Type, c.LastTransitionTime, before.Conditions[i].LastTransitionTime)
		}
	}
}
