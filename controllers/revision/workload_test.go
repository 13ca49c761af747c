package revision

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

func TestShortfallCountsOldPods(t *testing.T) {
	for want, status := range map[string]appsv1.DeploymentStatus{
		"1 old Pod still runs": {Replicas: 4, UpdatedReplicas: 3, AvailableReplicas: 3},
		"2 old Pods still run": {Replicas: 5, UpdatedReplicas: 3, AvailableReplicas: 4},
		"1 of 3 Pods updated":  {Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3},
		"3 of 3 Pods updated, 2 available, 1 old one still runs": {Replicas: 4, UpdatedReplicas: 3, AvailableReplicas: 2},
	} {
		if got := shortfall(&appsv1.Deployment{Status: status}, 3); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
