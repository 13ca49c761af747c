package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/object"
)

const absent = "127.0.0.1:1/none:1"

// pulls says which images the node is to pull.
func (c *cluster) pulls(images ...string) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.pull = images
	c.server.bump()
}

// pullCondition is what the server has heard of pulls ahead.
func (c *cluster) pullCondition() corev1.NodeCondition {
	for _, cond := range c.node().Status.Conditions {
		if cond.Type == object.PullCondition {
			return cond
		}
	}
	c.t.Error("the node has no pull condition")
	return corev1.NodeCondition{}
}

func (c *cluster) lists(image string) bool {
	return slices.ContainsFunc(c.node().Status.Images, func(i corev1.ContainerImage) bool { return slices.Contains(i.Names, image) })
}

// ensured counts how often the engine was asked to make an image present.
func (c *cluster) ensured(image string) (n int) {
	for _, call := range c.engine.Calls() {
		if call.Method == "EnsureImage" && call.Image == image {
			n++
		}
	}
	return n
}

// P6: an image that is wanted is pulled and reported without any Pod, and within a moment.
func TestImagesArePulledAhead(t *testing.T) {
	inCluster(t, func(c *cluster) {
		if got := c.pullCondition(); got.Status != corev1.ConditionTrue {
			t.Errorf("condition = %+v, want True from the start", got)
		}
		c.engine.SetRegistry("new:1", nil)
		c.pulls("new:1")
		c.settle()
		if !c.lists("new:1") {
			t.Errorf("images = %+v, want new:1 among them at once", c.node().Status.Images)
		}
		c.pulls()
		c.after(time.Minute)
		if !c.lists("new:1") {
			t.Error("what was pulled is not told of any more once it is")
		}
		polls := c.polls()
		c.after(time.Minute)
		if more := c.polls() - polls; more > 7 {
			t.Errorf("%d polls in a minute in which nothing happened", more)
		}
	})
}

func TestFailedPullsAheadAreReportedAndRepeated(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.SetRegistry(absent, errors.New("connection refused"))
		c.engine.SetRegistry("new:1", nil)
		c.pulls(absent, "new:1")
		c.settle()
		got := c.pullCondition()
		if got.Status != corev1.ConditionFalse || got.Message != "pull image "+absent+": connection refused" || !c.lists("new:1") {
			t.Errorf("condition = %+v, want False with the image and the engine's words, and the other image here", got)
		}
		c.after(65 * time.Second) // tries at 0, 10, 30; the next at 70
		if n := c.ensured(absent); n != 3 {
			t.Errorf("%d tries in 66 s, want 3", n)
		}
		c.engine.SetRegistry(absent, nil)
		c.after(10 * time.Second)
		if got := c.pullCondition(); got.Status != corev1.ConditionTrue || !c.lists(absent) {
			t.Errorf("condition = %+v, want True, and the image listed", got)
		}
	})
}

func TestAtMostTwoImagesArePulledAheadAtOnce(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var now, most atomic.Int64
		c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
			if call.Method != "EnsureImage" {
				return nil
			}
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
			c.engine.SetRegistry(ref, nil)
		}
		c.pulls("a:1", "b:1", "c:1", "d:1")
		c.after(30 * time.Second)
		c.pulls("c:1", "d:1") // a and b make way
		c.after(70 * time.Second)
		if most.Load() != 2 || !c.lists("c:1") || !c.lists("d:1") || c.lists("a:1") {
			t.Errorf("%d at once, images = %+v, want 2 and c and d alone", most.Load(), c.node().Status.Images)
		}
	})
}

func TestImagesPulledAheadThatVanishArePulledAgain(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.SetRegistry("new:1", nil)
		c.pulls("new:1")
		c.settle()
		c.engine.RemoveImage("new:1")
		c.after(nodeEvery + time.Second)
		if n := c.ensured("new:1"); n < 3 || !c.lists("new:1") { // pulled, missed, pulled again
			t.Errorf("%d calls, images = %+v, want it pulled again", n, c.node().Status.Images)
		}
		c.pulls()
		c.settle()
		c.engine.RemoveImage("new:1")
		c.after(2 * nodeEvery)
		if c.lists("new:1") {
			t.Error("an image that was removed is still told of")
		}
	})
}

func TestImagesPulledAheadAreNeverCutOff(t *testing.T) {
	var all []corev1.ContainerImage
	for i := range 2 * maxImages {
		all = append(all, corev1.ContainerImage{Names: []string{fmt.Sprint("i", i)}, SizeBytes: int64(1000 - i)})
	}
	var got []string
	for _, i := range images(all, []string{"i3", "i99", "library/i98"})[maxImages-1:] {
		got = append(got, strings.Join(i.Names, "+"))
	}
	if diff := cmp.Diff([]string{"i49", "i99", "library/i98"}, got); diff != "" {
		t.Errorf("the last images (-want +got):\n%s", diff)
	}
}
