package podcontrol

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestRoomOfABudget(t *testing.T) {
	least := func(v intstr.IntOrString) policyv1.PodDisruptionBudgetSpec {
		return policyv1.PodDisruptionBudgetSpec{MinAvailable: &v}
	}
	most := func(v intstr.IntOrString) policyv1.PodDisruptionBudgetSpec {
		return policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &v}
	}
	for name, tc := range map[string]struct {
		spec     policyv1.PodDisruptionBudgetSpec
		ready    int // of the ReplicaSet's Pods, which wants 4
		replicas int32
		want     Room
	}{
		"a number must stay":          {least(intstr.FromInt32(3)), 4, 4, Room{Expected: 4, Healthy: 4, Desired: 3, Allowed: 1}},
		"a part must stay, rounded":   {least(intstr.FromString("60%")), 4, 4, Room{Expected: 4, Healthy: 4, Desired: 3, Allowed: 1}},
		"a number may go":             {most(intstr.FromInt32(1)), 4, 4, Room{Expected: 4, Healthy: 4, Desired: 3, Allowed: 1}},
		"a part may go, rounded":      {most(intstr.FromString("30%")), 4, 4, Room{Expected: 4, Healthy: 4, Desired: 2, Allowed: 2}},
		"one is missing already":      {most(intstr.FromInt32(1)), 3, 4, Room{Expected: 4, Healthy: 3, Desired: 3, Allowed: 0}},
		"fewer than must stay":        {least(intstr.FromInt32(3)), 2, 4, Room{Expected: 4, Healthy: 2, Desired: 3, Allowed: 0}},
		"none is wanted and none was": {most(intstr.FromInt32(1)), 0, 0, Room{}},
	} {
		t.Run(name, func(t *testing.T) {
			app := map[string]string{"app": "web"}
			rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rs"}, Spec: appsv1.ReplicaSetSpec{Replicas: &tc.replicas}}
			objects := []object.Object{rs}
			for i := range tc.replicas {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("web-", i), Labels: app,
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}}}
				if int(i) < tc.ready {
					pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
				objects = append(objects, pod)
			}
			other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}}
			s := statetest.New(t, append(objects, other)...)
			budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: tc.spec}
			budget.Spec.Selector = &metav1.LabelSelector{MatchLabels: app}
			if got := RoomOf(s.View(), budget); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}
