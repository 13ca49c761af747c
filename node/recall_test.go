package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// P4: an agent's restart is no way round the back-off.
func TestBackoffOutlivesTheAgent(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", running("exit 1")))
		c.after(35 * time.Second) // starts at 0, 0, 10 and 30
		if c.starts("app") != 4 {
			t.Fatalf("%d starts, want 4", c.starts("app"))
		}
		c.restart()
		c.after(25 * time.Second)
		if c.starts("app") != 4 {
			t.Errorf("%d starts, want none before 40s have passed", c.starts("app"))
		}
		c.after(20 * time.Second)
		if c.starts("app") != 5 {
			t.Errorf("%d starts, want one after 40s", c.starts("app"))
		}
	})
}

// P5: an agent that has just come and finds no server takes the environment from the attempt before.
func TestEnvironmentOfTheAttemptBefore(t *testing.T) {
	s := &server{requests: map[string]int{}, refuse: away}
	w := &worker{tools: &tools{client: link.NewVia(s, "http://server")}}
	pod := aPod("web", secretEnv)
	got, _, err := w.environment(context.Background(), start{pod: pod, container: &pod.Spec.Containers[0], env: []string{"PASSWORD=old"}})
	if err != nil || !slices.Equal(got, []string{"PASSWORD=old"}) {
		t.Errorf("environment = %v, %v, want that of the attempt before", got, err)
	}
	if _, _, err := w.environment(context.Background(), start{pod: pod, container: &pod.Spec.Containers[0]}); err == nil {
		t.Error("no server and no attempt before: want an error")
	}
}

func TestLookOlderThanARemovalBringsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newAgent(Config{Name: "n1", Cluster: "c1", Client: link.NewVia(newServer()), Runtime: runtimetest.NewFake(), Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		a.buried["uid-web"] = 5
		a.deliver(t.Context(), look{Number: 4, Pods: []runtime.Pod{{Pod: aPod("web")}}})
		if len(a.workers) != 0 {
			t.Error("a removed Pod was taken for a found one")
		}
	})
}

// P5: the Pod range is known again without any server.
func TestPodRangeOutlivesTheAgent(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.stop()
		c.server.answerWith(away)
		before := len(c.engine.Calls())
		c.start()
		configured := slices.ContainsFunc(c.engine.Calls()[before:], func(call runtimetest.Call) bool { return call.Method == "Configure" })
		if !configured {
			t.Error("the runtime was not configured")
		}
	})
}

func TestInitContainersRunAgainInANewSandbox(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: image1, Command: []string{"true"}}}
		}))
		c.settle()
		c.engine.KillSandbox("uid-web")
		c.after(3 * time.Second)
		c.wants("uid-web", "Running setup#1:Completed(0) app#1:Ready")
	})
}

func TestRunRefusesAnIncompleteConfig(t *testing.T) {
	if err := Run(context.Background(), Config{Name: "n1"}); err == nil {
		t.Error("want an error that says what is missing")
	}
}
