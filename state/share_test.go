package state

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// decoded is a Pod as Apply makes it.
func decoded(t testing.TB, name string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	grace, controller := int64(30), true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "1", Controller: &controller}},
		},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name: "app", Image: "hello:1.0", Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			}},
		},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
		}},
	}
	if change != nil {
		change(pod)
	}
	b, err := marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEqualPartsAreShared(t *testing.T) {
	known := decoded(t, "web-1", nil)
	fresh := decoded(t, "web-2", func(p *corev1.Pod) {
		p.Spec.NodeName = "n2"
		p.Status.Conditions[2].Status = corev1.ConditionFalse
	})
	want := fresh.DeepCopy()
	share(fresh, known)
	if !reflect.DeepEqual(fresh, want) {
		t.Fatalf("sharing changed the object: %s", cmp.Diff(want, fresh))
	}
	for what, same := range map[string]bool{
		"labels":           reflect.ValueOf(fresh.Labels).Pointer() == reflect.ValueOf(known.Labels).Pointer(),
		"owner references": &fresh.OwnerReferences[0] == &known.OwnerReferences[0],
		"grace period":     fresh.Spec.TerminationGracePeriodSeconds == known.Spec.TerminationGracePeriodSeconds,
		"containers":       &fresh.Spec.Containers[0] == &known.Spec.Containers[0],
		"namespace":        unsafe.StringData(fresh.Namespace) == unsafe.StringData(known.Namespace),
		"text in a slice that differs": unsafe.StringData(string(fresh.Status.Conditions[2].Type)) ==
			unsafe.StringData(string(known.Status.Conditions[2].Type)),
	} {
		if !same {
			t.Errorf("%s of equal value are two copies", what)
		}
	}
	if &fresh.Status.Conditions[0] == &known.Status.Conditions[0] {
		t.Error("conditions that differ are one")
	}
	if room := cap(fresh.Status.Conditions) - len(fresh.Status.Conditions); room != 0 {
		t.Errorf("room for %d more conditions, which will never come", room)
	}
}

// Nil and empty are encoded differently by some kinds, and a value inside a map or an element more makes a difference.
func TestUnequalPartsAreNotShared(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"a value of a map":    func(p *corev1.Pod) { p.Labels["app"] = "other" },
		"an entry more":       func(p *corev1.Pod) { p.Labels["more"] = "x" },
		"an element more":     func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b"}) },
		"an element less":     func(p *corev1.Pod) { p.Status.Conditions = p.Status.Conditions[:1] },
		"no slice":            func(p *corev1.Pod) { p.Spec.Containers = nil },
		"an empty slice":      func(p *corev1.Pod) { p.Spec.Containers = []corev1.Container{} },
		"no pointer":          func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = nil },
		"a number pointed to": func(p *corev1.Pod) { *p.Spec.TerminationGracePeriodSeconds = 31 },
		"a quantity": func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("200m")
		},
		"a time": func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Unix(1001, 0)) },
		"text":   func(p *corev1.Pod) { p.Spec.Containers[0].Env[0].Value = "2" },
	} {
		t.Run(name, func(t *testing.T) {
			known := decoded(t, "web-1", nil)
			fresh := decoded(t, "web-1", nil)
			change(fresh)
			want := fresh.DeepCopy()
			share(fresh, known, decoded(t, "web-0", nil))
			if !reflect.DeepEqual(fresh, want) {
				t.Error(cmp.Diff(want, fresh))
			}
			if reflect.DeepEqual(fresh, known) {
				t.Error("the change is lost")
			}
		})
	}
}

func BenchmarkShare(b *testing.B) {
	known := decoded(b, "web-1", nil)
	encoded, err := marshal(known)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if err := unmarshal(encoded, &corev1.Pod{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode and share", func(b *testing.B) {
		for b.Loop() {
			fresh := &corev1.Pod{}
			if err := unmarshal(encoded, fresh); err != nil {
				b.Fatal(err)
			}
			share(fresh, known)
		}
	})
}
