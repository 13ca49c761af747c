package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// E11: an engine that hangs makes no Pod fail, and none is restarted when it comes round.
func TestEngineThatHangs(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", ready, func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"alive"}}}, PeriodSeconds: 5, FailureThreshold: 2}
		}))
		c.settle()
		var hangs atomic.Bool
		hangs.Store(true)
		c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
			if hangs.Load() {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		c.after(35 * time.Second)
		for _, condition := range []corev1.NodeConditionType{conditionEngine, corev1.NodeReady} {
			if got := conditionOf(c.node(), condition); got != corev1.ConditionFalse {
				t.Errorf("%s = %s, want False", condition, got)
			}
		}
		c.after(time.Minute)
		c.wants("uid-web", "Running app#0:Ready")
		hangs.Store(false)
		c.after(time.Minute)
		c.wants("uid-web", "Running app#0:Ready")
		if c.starts("app") != 1 {
			t.Error("the container was restarted")
		}
		if got := conditionOf(c.node(), corev1.NodeReady); got != corev1.ConditionTrue {
			t.Errorf("Ready = %s, want True", got)
		}
	})
}

// A node known from an earlier run gets no more Pods while an agent that has just come finds no engine.
func TestAgentThatFindsNoEngineSaysSo(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.stop()
		refused := errors.New("cannot connect to the Docker daemon")
		c.engine.Intercept(func(context.Context, runtimetest.Call) error { return refused })
		c.start()
		c.after(silentIsNotReady / 2)
		if got := conditionOf(c.node(), corev1.NodeReady); got != corev1.ConditionTrue {
			t.Errorf("Ready = %s after a moment, want True", got)
		}
		c.after(silentIsNotReady + maxRetry)
		if got := conditionOf(c.node(), corev1.NodeReady); got != corev1.ConditionFalse {
			t.Errorf("Ready = %s, want False", got)
		}
		c.wants("uid-web", "Running app#0:Ready")
		c.engine.Intercept(nil)
		c.after(maxRetry + time.Second)
		if got := conditionOf(c.node(), corev1.NodeReady); got != corev1.ConditionTrue {
			t.Errorf("Ready = %s with an engine, want True", got)
		}
		if c.starts("app") != 1 {
			t.Error("the container was restarted")
		}
	})
}

// A Pod range that cannot be used makes the node say so; Pods wait with that message, until it can.
func TestRangeThatCannotBeUsed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		overlap := errors.New("the Pod range overlaps that of interface ms-1")
		var fails atomic.Bool
		fails.Store(true)
		c.engine.Intercept(func(_ context.Context, call runtimetest.Call) error {
			if fails.Load() && (call.Method == "Configure" || call.Method == "EnsureSandbox") {
				return overlap
			}
			return nil
		})
		c.restart()
		c.server.bind(aPod("web"))
		c.after(15 * time.Second)
		c.wants("uid-web", "Pending app#0:ContainerCreating")
		if got := c.server.status("uid-web").ContainerStatuses[0].State.Waiting.Message; got != overlap.Error() {
			t.Errorf("the Pod's message = %q, want %q", got, overlap)
		}
		if i := slices.IndexFunc(c.node().Status.Conditions, func(nc corev1.NodeCondition) bool {
			return nc.Type == corev1.NodeReady && nc.Status == corev1.ConditionFalse && strings.Contains(nc.Message, overlap.Error())
		}); i < 0 {
			t.Errorf("conditions = %+v, want one that is not Ready for %q", c.node().Status.Conditions, overlap)
		}
		fails.Store(false)
		c.after(25 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		if got := conditionOf(c.node(), corev1.NodeReady); got != corev1.ConditionTrue {
			t.Errorf("Ready = %s, want True", got)
		}
	})
}

func conditionOf(n *corev1.Node, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

func TestHangingEngineCallIsGivenUp(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var hung atomic.Bool
		c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
			if call.Method == "StartContainer" && hung.CompareAndSwap(false, true) {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		c.server.bind(aPod("web"), aPod("db"))
		c.after(3 * time.Minute)
		c.wants("uid-web", "Running app#0:Ready")
		c.wants("uid-db", "Running app#0:Ready")
	})
}
