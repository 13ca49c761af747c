package plan_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/plan"
)

// randomDeployment draws few values for many fields, so that two draws often agree.
func randomDeployment(t *rapid.T, label string) *appsv1.Deployment {
	small := func(what string) int { return rapid.IntRange(0, 2).Draw(t, label+" "+what) }
	d := &appsv1.Deployment{}
	d.Labels = randomTexts(t, label+" label")
	if n := small("replicas"); n > 0 {
		d.Spec.Replicas = new(int32(n))
	}
	d.Spec.MinReadySeconds = int32(small("minReady"))
	if n := small("surge"); n > 0 {
		surge := intstr.FromInt32(int32(n))
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge}
	}
	for i := range small("containers") + 1 {
		c := corev1.Container{Name: fmt.Sprintf("c%d", i), Image: fmt.Sprintf("i%d", small("image"))}
		for j := range small("ports") {
			c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 53, Protocol: []corev1.Protocol{"TCP", "UDP"}[j]})
		}
		for name, value := range randomTexts(t, label+" env") {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
		}
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, c)
	}
	return d
}

func randomTexts(t *rapid.T, label string) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"", "1", "2"}), 0, 3).Draw(t, label)
}

var loosely = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.SortSlices(func(a, b corev1.EnvVar) bool { return a.Name < b.Name }),
}

func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, want, live := randomDeployment(t, "base"), randomDeployment(t, "want"), randomDeployment(t, "live")
		untouched := [3]*appsv1.Deployment{base.DeepCopy(), want.DeepCopy(), live.DeepCopy()}

		if got := plan.Merge(base, want, base); !cmp.Equal(want, got, loosely) {
			t.Errorf("nobody else changed it, yet it is not what is wanted (-want +got):\n%s", cmp.Diff(want, got, loosely))
		}
		if got := plan.Merge(base, base, live); !cmp.Equal(live, got, loosely) {
			t.Errorf("Git changed nothing, yet the live object changes (-want +got):\n%s", cmp.Diff(live, got, loosely))
		}
		merged := plan.Merge(base, want, live)
		if again := plan.Merge(want, want, merged); !cmp.Equal(merged, again, loosely) {
			t.Errorf("merging twice changes again (-want +got):\n%s", cmp.Diff(merged, again, loosely))
		}
		if diff := cmp.Diff(untouched, [3]*appsv1.Deployment{base, want, live}); diff != "" {
			t.Errorf("an input was modified:\n%s", diff)
		}
	})
}

func TestDiffAgreesWithEquality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := randomDeployment(t, "a"), randomDeployment(t, "b")
		if got, differ := plan.Diff(a, b), !cmp.Equal(a, b, cmpopts.EquateEmpty()); (len(got) > 0) != differ {
			t.Errorf("differ = %v, but the differences are %v", differ, got)
		}
	})
}
