package plan

import "github.com/mainstay-cluster/mainstay/object"

// Describe lists what a plan does to declared objects, with the fields that change.
func Describe(p Plan) []ObjectChange {
	out := []ObjectChange{}
	for i := range p.Changes {
		if p.Changes[i].Action != Record {
			out = append(out, describeChange(&p.Changes[i]))
		}
	}
	return out
}

func describeChange(c *Change) ObjectChange {
	out := ObjectChange{Action: c.Action, Namespace: c.Key.Namespace, Name: c.Key.Name}
	out.APIVersion, out.Kind = c.Kind.ToAPIVersionAndKind()
	source := c.Source
	if source == nil {
		source = c.Was
	}
	if source != nil {
		out.Path, out.Line = source.Spec.Path, source.Spec.Line
	}
	if c.Before != nil && c.After != nil {
		out.Fields = Diff(c.Before, c.After)
	}
	return out
}

// Report says what a commit would do to a cluster: what `mainstay plan` prints. It never holds a value of a Secret.
type Report struct {
	Commit   string           `json:"commit,omitempty"`  // full hash; "" for files that are in no commit
	Subject  string           `json:"subject,omitempty"` // first line of the commit's message
	Version  uint64           `json:"version"`           // of the store the plan was made on
	Counts   Counts           `json:"counts"`
	Objects  []ObjectChange   `json:"objects"` // by kind, namespace and name; moved ones are only counted
	Pods     PodReport        `json:"pods"`
	Problems []object.Problem `json:"problems,omitempty"` // if there are any, the commit would be rejected and all else is empty
}

// Counts says how many declared objects a plan treats how.
type Counts struct {
	Created   int `json:"created"`
	Changed   int `json:"changed"`
	Replaced  int `json:"replaced"` // Pods of the repository whose spec changed
	Deleted   int `json:"deleted"`
	Untouched int `json:"untouched"`
	Moved     int `json:"moved"` // of the untouched: declared in another place than before
}

// ObjectChange is one declared object that a plan writes.
type ObjectChange struct {
	Action     Action        `json:"action"`
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Namespace  string        `json:"namespace,omitempty"`
	Name       string        `json:"name"`
	Path       string        `json:"path,omitempty"` // where it is declared; of a deleted object, where it was
	Line       int           `json:"line,omitempty"`
	Fields     []FieldChange `json:"fields,omitempty"` // of a changed or replaced object
}

// FieldChange is one field before and after. Old and New are compact JSON; "" says that the field is absent. A hidden
// value reads Concealed on both sides.
type FieldChange struct {
	Path string `json:"path"` // as in spec.containers[name=web].image
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Concealed stands for a value that may not be shown.
const Concealed = "(hidden)"

// PodReport says what becomes of the Pods once controllers and scheduler have done all that follows from a plan.
type PodReport struct {
	Kept          int        `json:"kept"` // the same Pods as before, not touched
	Replaced      int        `json:"replaced"`
	Created       int        `json:"created"`
	Deleted       int        `json:"deleted"`
	Unschedulable int        `json:"unschedulable"` // of the replaced and created: those that fit nowhere
	Unfinished    string     `json:"unfinished,omitempty"`
	Workloads     []Workload `json:"workloads"` // those with any change to their Pods, by namespace, kind and name
}

// Workload is what a plan means for the Pods of one Deployment, ReplicaSet or for one bare Pod.
type Workload struct {
	Kind          string          `json:"kind"`
	Namespace     string          `json:"namespace"`
	Name          string          `json:"name"`
	Kept          int             `json:"kept"`
	Replaced      int             `json:"replaced"`
	Created       int             `json:"created"`
	Deleted       int             `json:"deleted"`
	Nodes         []NodeShare     `json:"nodes,omitempty"` // where the replaced and created ones would run, by name
	Unschedulable []Unschedulable `json:"unschedulable,omitempty"`
}

// NodeShare is how many new Pods a node would get.
type NodeShare struct {
	Node string `json:"node"`
	Pods int    `json:"pods"`
}

// Unschedulable is why Pods fit nowhere, in the scheduler's words.
type Unschedulable struct {
	Reason string `json:"reason"`
	Pods   int    `json:"pods"`
}

// Empty says whether the commit would change nothing at all.
func (r *Report) Empty() bool {
	return len(r.Problems) == 0 && len(r.Objects) == 0 && len(r.Pods.Workloads) == 0
}
