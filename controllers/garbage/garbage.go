// Package garbage deletes what nobody wants any more: objects whose owners are gone, what is left in namespaces that the
// repository no longer declares, Pods that a rebuilt cluster found and has no use for, and old Events. It never deletes
// anything because something could not be read. Each kind of garbage has its own file. Start at Controllers.
package garbage

import (
	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// burst is how many objects one transaction deletes at most.
const burst = 500

// Controllers returns one controller for each kind of garbage.
func Controllers() []engine.Controller {
	return []engine.Controller{ownedPods(), ownedReplicaSets(), namespaces(), orphans(), finished(), events(), tokens()}
}

// activated says whether a revision has ever been brought into force here. Before that, the store knows only what nodes
// have reported, and nothing can be said to be unwanted.
func activated(r state.Reader) bool {
	for c := range state.List[*object.Cluster](r, "") {
		if c.Status.Revision != "" {
			return true
		}
	}
	return false
}
