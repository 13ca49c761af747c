package node

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestImageThatCannotBePulledBacksOff(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.SetRegistry("nowhere/app:1", errors.New("manifest unknown"))
		c.server.bind(aPod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nowhere/app:1" }))
		c.after(time.Second)
		c.wants("uid-web", "Pending app#0:ErrImagePull")
		c.after(4 * time.Second)
		c.wants("uid-web", "Pending app#0:ImagePullBackOff")
		c.engine.SetRegistry("nowhere/app:1", nil)
		c.after(7 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		if st := c.server.status("uid-web"); st.ContainerStatuses[0].ImageID == "" {
			t.Error("the status has no imageID")
		}
	})
}

func TestImageIsPulledBeforeAnythingElse(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nowhere/app:1" }))
		c.settle()
		for _, call := range c.engine.Calls() {
			if call.Method == "EnsureSandbox" {
				t.Error("a sandbox was made before the image was there")
			}
		}
	})
}

// P6 starts replacements before it stops anything, but a Pod one of whose images is not to be had runs what it can.
func TestImageThatCannotBePulledBlocksOnlyItsContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{
				{Name: "missing", Image: "nowhere/app:1"}, {Name: "bad", Image: image1, Command: []string{"/nonexistent"}}, {Name: "fine", Image: image2},
			}
		}), aPod("job", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: image1, Command: []string{"sleep", "3"}}}
			p.Spec.Containers[0].Image = "nowhere/app:1"
		}))
		c.settle()
		c.wants("uid-web", "Pending missing#0:ErrImagePull bad#1:RunContainerError fine#0:Ready")
		c.wants("uid-job", "Pending setup#0:Running app#0:PodInitializing")
		c.after(4 * time.Second)
		c.wants("uid-web", "Pending missing#0:ImagePullBackOff bad#1:RunContainerError fine#0:Ready")
		c.wants("uid-job", "Pending setup#0:Completed(0) app#0:ErrImagePull")
		c.engine.SetRegistry("nowhere/app:1", nil)
		c.after(10 * time.Second)
		c.wants("uid-job", "Running setup#0:Completed(0) app#0:Ready")
	})
}

func TestImageNeverPull(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "nowhere/app:1", corev1.PullNever
		}))
		c.after(5 * time.Second)
		c.wants("uid-web", "Pending app#0:ErrImageNeverPull")
	})
}
