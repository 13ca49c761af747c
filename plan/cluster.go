package plan

import (
	"fmt"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// LiveCluster is the one Cluster of a store; nil before there is one.
func LiveCluster(r state.Reader) *object.Cluster {
	for cluster := range state.List[*object.Cluster](r, "") {
		return cluster
	}
	return nil
}

// mayBeCalled says whether a declared Cluster has the living one's name. Containers carry that name as a label: under
// another one they would be nobody's.
func (c *computation) mayBeCalled(d *Desired) bool {
	live := LiveCluster(c.r)
	if live == nil || live.Name == d.Object.GetName() {
		return true
	}
	c.problem(d, "metadata.name", fmt.Sprintf("this cluster is called %s and cannot be renamed while it lives: its containers are labelled with that name; write name: %s", live.Name, live.Name))
	return false
}

// nameless refuses to forget a Cluster that was declared: rebuilt from the repository, it would get another name.
func (c *computation) nameless(was *object.Source) {
	for other := range c.seen {
		if other.resource == object.KindFor[*object.Cluster]().Resource {
			return // declared under another name, which is a problem already
		}
	}
	c.problems = append(c.problems, object.Problem{
		Path: was.Spec.Path, Line: was.Spec.Line, Column: 1, Object: "Cluster " + was.Spec.Name,
		Message: fmt.Sprintf("the Cluster is no longer declared, but a cluster that is rebuilt from this repository needs its name to recognise its containers: put back a Cluster with name: %s", was.Spec.Name),
	})
}
