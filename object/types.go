package object

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is where Mainstay's own kinds live.
var GroupVersion = schema.GroupVersion{Group: "mainstay.dev", Version: "v1alpha1"}

// Revision phases: a commit is Rejected, or Active until it ends as one of the last three.
const (
	RevisionRejected   = "Rejected"
	RevisionActive     = "Active"
	RevisionConverged  = "Converged"
	RevisionFailed     = "Failed"
	RevisionSuperseded = "Superseded"
)

// Revision is a Git commit as the cluster knows it. It is cluster-scoped and named by the abbreviated commit.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Revision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RevisionSpec   `json:"spec"`
	Status RevisionStatus `json:"status,omitempty"`
}

// RevisionSpec is what Git says about the commit; it never changes, but for Sequence when a commit becomes the head again.
// +k8s:deepcopy-gen=true
type RevisionSpec struct {
	Commit     string      `json:"commit"` // full hash
	Author     string      `json:"author"` // name <email>
	Subject    string      `json:"subject"`
	CommitTime metav1.Time `json:"commitTime"`
	Branch     string      `json:"branch"`
	Sequence   int64       `json:"sequence"` // counts revisions in the order the cluster took them in; 1 is the first
}

// RevisionStatus is how far the cluster has come with the commit.
// +k8s:deepcopy-gen=true
type RevisionStatus struct {
	Phase       string       `json:"phase,omitempty"`
	Message     string       `json:"message,omitempty"` // why it is not Converged yet, or why it Failed, naming the Pod
	FetchedAt   *metav1.Time `json:"fetchedAt,omitempty"`
	ActivatedAt *metav1.Time `json:"activatedAt,omitempty"`
	EndedAt     *metav1.Time `json:"endedAt,omitempty"` // Rejected, Converged, Failed or Superseded
	Created     int32        `json:"created"`
	Changed     int32        `json:"changed"`
	Deleted     int32        `json:"deleted"`
	Untouched   int32        `json:"untouched"`
	Problems    []Problem    `json:"problems,omitempty"` // the first 50
	ProblemsAll int32        `json:"problemsTotal,omitempty"`
}

// Problem is one thing in a repository that rejects a commit. It never holds a value from a Secret.
// +k8s:deepcopy-gen=true
type Problem struct {
	Path    string `json:"path"`
	Line    int    `json:"line,omitempty"`   // 1-based; 0 when the problem is the whole file
	Column  int    `json:"column,omitempty"` // 1-based, in characters; 0 when it is not known
	Object  string `json:"object,omitempty"` // Kind namespace/name, when it is known
	Field   string `json:"field,omitempty"`  // path of the field, when it is one
	Message string `json:"message"`
}

// String renders a problem as a compiler does, without a line end: path:line:column: object: field: message. What is not known is left out.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Path)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	for _, part := range []string{p.Object, p.Field, p.Message} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String()
}

// Source records where a declared object came from and what the commit said of it. It has the object's namespace and
// the name <resource>.<name> (see SourceName). It exists as long as the repository declares the object.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Source struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SourceSpec `json:"spec"`
}

// SourceSpec is one declaration.
// +k8s:deepcopy-gen=true
type SourceSpec struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Commit     string `json:"commit"` // the commit that last changed the object, full hash
	Author     string `json:"author"`
	Path       string `json:"path"`
	Line       int    `json:"line"`
	// Declared is the object exactly as the repository names it, as JSON before defaults: the "last applied" of a three-way merge.
	Declared []byte `json:"declared,omitempty"`
}

// Cluster carries the cluster's own settings. It stands in mainstay.yaml at the root of --path, and is optional.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"` // the name is the cluster's id

	Spec   ClusterSpec   `json:"spec,omitempty"`
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterSpec has a default for every field.
// +k8s:deepcopy-gen=true
type ClusterSpec struct {
	PodCIDR     string `json:"podCIDR,omitempty"`     // 10.244.0.0/16; each node takes a /24 of it
	ServiceCIDR string `json:"serviceCIDR,omitempty"` // 10.96.0.0/16
	// EvictAfter is how long a Pod stays on a node that is not Ready or cannot be reached, unless its own tolerations say; 5m.
	EvictAfter *metav1.Duration `json:"evictAfter,omitempty"`
}

// ClusterStatus is what the cluster knows of its repository. Only a change is written, never the time of a poll.
// +k8s:deepcopy-gen=true
type ClusterStatus struct {
	Store    string       `json:"store,omitempty"` // names the store that counts the versions: those of another one mean nothing
	Repo     string       `json:"repo,omitempty"`  // without credentials
	Branch   string       `json:"branch,omitempty"`
	Path     string       `json:"path,omitempty"`
	Head     string       `json:"head,omitempty"`     // the commit the branch was last seen at, full hash
	Revision string       `json:"revision,omitempty"` // name of the Revision that is in force: the last one that was not rejected
	Error    string       `json:"error,omitempty"`    // why the repository cannot be read now; "" when it can
	ErrorAt  *metav1.Time `json:"errorAt,omitempty"`  // since when
	Level    int          `json:"level,omitempty"`    // the format level that all servers have understood at one time; it never goes down

	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Conditions of the Cluster.
const (
	EvictionsPaused = "EvictionsPaused" // True while so many nodes are not Ready that no Pod is moved off them
	MajorityLost    = "MajorityLost"    // True once servers were given up by hand; since when is when, the message says which
	Recovering      = "Recovering"      // True while a server that lost its store waits for nodes to report what they run
)

// IsRecovering says whether a server that lost its store does not know yet what all nodes run.
func IsRecovering(c *Cluster) bool {
	return apimeta.IsStatusConditionTrue(c.Status.Conditions, Recovering)
}

// SourceName is the name of the Source of an object of kind k.
func SourceName(k Kind, name string) string { return k.Resource + "." + name }

// Hidden stands in for every value that readers may not see.
const Hidden = "hidden by Mainstay"

func redactSecret(obj Object) Object {
	secret := *obj.(*corev1.Secret)
	secret.Data = make(map[string][]byte, len(secret.Data))
	for key := range obj.(*corev1.Secret).Data {
		secret.Data[key] = []byte(Hidden)
	}
	secret.StringData = nil
	if _, ok := secret.Annotations[corev1.LastAppliedConfigAnnotation]; ok { // kubectl apply leaves a copy of the whole Secret there
		secret.Annotations = maps.Clone(secret.Annotations)
		secret.Annotations[corev1.LastAppliedConfigAnnotation] = Hidden
	}
	return &secret
}

func redactSource(obj Object) Object {
	source := *obj.(*Source)
	source.Spec.Declared = nil
	return &source
}
