package node

import (
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// cluster is a server, an engine and an agent in one bubble.
type cluster struct {
	t      *testing.T
	server *server
	engine *runtimetest.Fake
	dir    string
	stop   func()
}

const image1, image2 = "example.com/app:1", "example.com/app:2"

// inCluster runs a test in a bubble with a cluster whose agent has started.
func inCluster(t *testing.T, test func(c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, server: newServer(), engine: runtimetest.NewFake(image1, image2), dir: dir}
		c.answering(nil)
		c.start()
		defer func() { c.stop() }()
		test(c)
	})
}

// start starts an agent; stop ends it as kill -9 would, as far as the engine and the server can tell.
func (c *cluster) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Name: "n1", Cluster: "c1", Client: link.NewVia(c.server, "http://server"), Runtime: c.engine, DataDir: c.dir,
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
	c.settle()
}

func (c *cluster) restart() {
	c.stop()
	c.start()
}

// settle lets everything happen that takes no more than a moment.
func (c *cluster) settle() { c.after(1500 * time.Millisecond) }

// after lets virtual time pass.
func (c *cluster) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// starts counts how often the engine was asked to start a container.
func (c *cluster) starts(container string) int {
	n := 0
	for _, call := range c.engine.Calls() {
		if call.Method == "StartContainer" && call.Container == container {
			n++
		}
	}
	return n
}

// id is the engine's id of a container's newest attempt.
func (c *cluster) id(uid types.UID, container string) string {
	pods, err := c.engine.Pods(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	id := ""
	for _, p := range pods {
		for _, cont := range p.Containers {
			if p.Pod.UID == uid && cont.Name == container {
				id = cont.ID
			}
		}
	}
	return id
}

// node is the Node as the server has it.
func (c *cluster) node() *corev1.Node {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.node.DeepCopy()
}

// polls counts the long polls so far.
func (c *cluster) polls() int {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.requests[link.PathPods]
}

func (c *cluster) wants(uid types.UID, want string) {
	c.t.Helper()
	if got := c.server.show(uid); got != want {
		c.t.Errorf("status = %q, want %q", got, want)
	}
}

// aPod is a Pod with one container that runs until stopped, changed as given.
func aPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "app", Image: image1, ImagePullPolicy: corev1.PullIfNotPresent}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, fn := range change {
		fn(pod)
	}
	return pod
}

func running(script string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh", "-c", script} }
}

func policy(r corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = r }
}
