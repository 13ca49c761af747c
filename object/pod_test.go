package object_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

func TestAPodEndsOnceByItsGrace(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 900_000_000, time.UTC)
	for name, tc := range map[string]struct {
		grace *int64
		want  int64
	}{
		"unset": {nil, 30},
		"none":  {new(int64(0)), 0},
		"own":   {new(int64(90)), 90},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: tc.grace}}
		dying := object.Terminating(pod, now)
		at := time.Date(2030, 1, 1, 12, 0, int(tc.want), 0, time.UTC)
		if pod.DeletionTimestamp != nil || !dying.DeletionTimestamp.Time.Equal(at) || *dying.DeletionGracePeriodSeconds != tc.want {
			t.Errorf("%s: until %v, grace %d; want %v, %d", name, dying.DeletionTimestamp, *dying.DeletionGracePeriodSeconds, at, tc.want)
		}
		if again := object.Terminating(dying, now.Add(time.Hour)); again != dying {
			t.Errorf("%s: a second deletion moves the end to %v", name, again.DeletionTimestamp)
		}
	}
}
