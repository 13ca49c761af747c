package node

import (
	"testing"
	"time"
)

func TestPodRuns(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.wants("uid-web", "Running app#0:Ready")
		st := c.server.status("uid-web")
		if st.PodIP == "" || st.HostIP == "" || st.StartTime == nil || st.ContainerStatuses[0].ContainerID == "" {
			t.Errorf("status lacks addresses, start time or id: %+v", st)
		}
	})
}

func TestPodIsRemoved(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.server.delete("uid-web", 30)
		c.after(4 * time.Second)
		if c.server.has("uid-web") {
			t.Error("the server still has the Pod")
		}
		if c.id("uid-web", "app") != "" {
			t.Error("the engine still has the Pod")
		}
	})
}

func TestCrashingContainerBacksOff(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", running("sleep 1; exit 3")))
		c.after(4 * time.Second)
		c.wants("uid-web", "Running app#1:CrashLoopBackOff")
		c.after(10 * time.Second)
		c.wants("uid-web", "Running app#2:CrashLoopBackOff")
	})
}
