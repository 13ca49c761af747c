package runtime

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestContainerHashFollowsTheSpecAlone(t *testing.T) {
	c := corev1.Container{Name: "main", Image: "app:1", Command: []string{"run"}}
	same := corev1.Container{Name: "main", Image: "app:1", Command: []string{"run"}, Args: []string{}, Env: []corev1.EnvVar{}}
	if ContainerHash(&c) != ContainerHash(&same) {
		t.Error("an empty field differs from an absent one")
	}
	other := c
	other.Image = "app:2"
	if ContainerHash(&c) == ContainerHash(&other) {
		t.Error("two images have one hash")
	}
	// Golden: containers made by an older build carry its hash, and must not be restarted by a newer one.
	if got := ContainerHash(&c); got != "c0df1c9cb3d2d621" {
		t.Errorf("hash %s", got)
	}
}
