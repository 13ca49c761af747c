package node

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// unreadable is an engine whose labels say no more of a Pod than its name.
type unreadable struct{ runtime.Runtime }

func (u unreadable) Pods(ctx context.Context) ([]runtime.Pod, error) {
	pods, err := u.Runtime.Pods(ctx)
	for i, p := range pods {
		pods[i].Pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Pod.Namespace, Name: p.Pod.Name, UID: p.Pod.UID}}
	}
	return pods, err
}

// P5: a Pod whose labels cannot be read runs until a server says what becomes of it.
func TestPodWithUnreadableLabelsIsStoppedOnlyWhenTold(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		id := c.id("uid-web", "app")
		c.stop()
		c.server.answerWith(func(string) error { return errAway })
		c.startOn(unreadable{c.engine})
		c.after(5 * time.Minute)
		if got := c.id("uid-web", "app"); got != id || c.starts("app") != 1 || c.stops() != 0 {
			t.Errorf("without a server: container %s after %d starts and %d stops, want %s untouched", got, c.starts("app"), c.stops(), id)
		}
		c.server.drop("uid-web")
		c.server.answerWith(nil)
		c.after(time.Minute)
		if c.id("uid-web", "app") != "" || c.stops() != 1 {
			t.Errorf("a Pod that is gone was not stopped and removed (%d stops)", c.stops())
		}
	})
}

// startOn starts an agent on an engine other than the cluster's.
func (c *cluster) startOn(rt runtime.Runtime) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Name: "n1", Cluster: "c1", Client: link.NewVia(c.server, "http://server"), Runtime: rt, DataDir: c.dir,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
	}()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("agent ended with %v", err)
		}
		c.stop = func() {}
	}
}

// stops counts how often the engine was asked to stop a container.
func (c *cluster) stops() (n int) {
	for _, call := range c.engine.Calls() {
		if call.Method == "StopContainer" {
			n++
		}
	}
	return n
}
