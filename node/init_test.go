package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestInitContainersRunInOrder(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: image1, Command: []string{"sleep", "2"}},
				{Name: "two", Image: image1, Command: []string{"sleep", "2"}},
			}
		}))
		c.after(time.Second)
		c.wants("uid-web", "Pending one#0:Running two#0:PodInitializing app#0:PodInitializing")
		c.after(2 * time.Second)
		c.wants("uid-web", "Pending one#0:Completed(0) two#0:Running app#0:PodInitializing")
		c.after(2 * time.Second)
		c.wants("uid-web", "Running one#0:Completed(0) two#0:Completed(0) app#0:Ready")
	})
}

func TestFailingInitContainerIsRepeated(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "one", Image: image1, Command: []string{"exit", "1"}}}
		}))
		c.after(3 * time.Second)
		c.wants("uid-web", "Pending one#1:CrashLoopBackOff app#0:PodInitializing")
		if c.starts("app") != 0 {
			t.Error("the app container was started before its init container succeeded")
		}
	})
}

func TestFailingInitContainerFailsAPodThatNeverRestarts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("job", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "one", Image: image1, Command: []string{"exit", "1"}}}
		}))
		c.after(time.Minute)
		c.wants("uid-job", "Failed one#0:Error(1) app#0:PodInitializing")
	})
}

func TestSidecarRunsBesideAndEndsWithTheApp(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("job", policy(corev1.RestartPolicyNever), running("sleep 10; exit 0"), func(p *corev1.Pod) {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: image1, RestartPolicy: &always}, {Name: "setup", Image: image1, Command: []string{"sleep", "3"}}}
		}))
		c.after(time.Second)
		c.wants("uid-job", "Pending proxy#0:Ready setup#0:Running app#0:PodInitializing")
		c.after(4 * time.Second)
		c.wants("uid-job", "Running proxy#0:Ready setup#0:Completed(0) app#0:Ready")
		c.engine.Kill(c.id("uid-job", "proxy"), 1)
		c.after(time.Second)
		c.wants("uid-job", "Running proxy#1:Ready setup#0:Completed(0) app#0:Ready")
		c.after(10 * time.Second)
		c.wants("uid-job", "Succeeded proxy#1:Completed(0) setup#0:Completed(0) app#0:Completed(0)")
	})
}
