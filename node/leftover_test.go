package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// An agent that is killed when it has removed a Pod's containers, and not yet its files, must not leave them for good. What they are
// of, only a server knows: one that it wants keeps them.
func TestFilesOfAPodThatIsGoneAreRemoved(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.stop()
		c.engine.LeaveFiles("uid-gone")
		c.engine.LeaveFiles("uid-web")
		c.server.bind(aPod("web"))
		c.server.answerWith(away)
		c.start()
		c.after(time.Minute)
		if n := c.listed("uid-gone") + c.listed("uid-web"); n != 2 {
			t.Errorf("%d of 2 Pods with files are left without a server's word", n)
		}
		c.server.answerWith(nil)
		c.after(time.Minute)
		if c.listed("uid-gone") != 0 {
			t.Error("files of a Pod that no server knows are left")
		}
		c.wants("uid-web", "Running app#0:Ready")
		for _, call := range c.engine.Calls() {
			if call.Method == "RemovePod" && call.UID != "uid-gone" {
				t.Errorf("%+v", call)
			}
		}
	})
}

// listed counts the engine's Pods of a uid.
func (c *cluster) listed(uid string) (n int) {
	c.t.Helper()
	pods, err := c.engine.Pods(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return len(slices.DeleteFunc(pods, func(p runtime.Pod) bool { return string(p.Pod.UID) != uid }))
}
