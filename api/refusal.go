package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// remotes are subresources that reach into a running Pod. They are asked for with GET, but are no reads.
var remotes = []string{"exec", "attach", "portforward"}

func isRemote(sub string) bool { return slices.Contains(remotes, sub) }

// notARead refuses whatever is not a read, and says where to make the change.
func (a *API) notARead(r *http.Request, id Identity) error {
	view := a.Store.View()
	at, ok := parsePath(r.URL.Path)
	if !ok {
		return methodNotAllowed(adviceFor(view, nil))
	}
	message := ""
	if isRemote(at.sub) {
		message = remoteAdvice(view, at)
	} else {
		message = adviceFor(view, subject(view, at))
		a.Log.Info("write refused", "user", id.Name, "method", r.Method, "path", r.URL.Path)
	}
	err := methodNotAllowed(message)
	err.ErrStatus.Details = &metav1.StatusDetails{Group: at.group, Kind: at.resource, Name: at.key.Name}
	return err
}

func methodNotAllowed(message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed,
		Reason: metav1.StatusReasonMethodNotAllowed, Message: message,
	}}
}

// subject is the object at a place, nil if there is none.
func subject(view *state.Snapshot, at place) object.Object {
	kind, ok := at.kind(object.Kinds())
	if !ok || at.key.Name == "" || !state.Has(view, kind) {
		return nil
	}
	obj, ok := state.GetKind(view, kind, at.key)
	if !ok {
		return nil
	}
	return obj
}

// adviceFor says where in Git to make a change to obj; nil is an object that does not exist.
func adviceFor(view *state.Snapshot, obj object.Object) string {
	cluster := clusterOf(view)
	if obj != nil {
		if t := traceOf(view, obj); t.declared() {
			what := ""
			if last := t.Chain[len(t.Chain)-1]; len(t.Chain) > 1 {
				what = fmt.Sprintf(", which declares %s %s,", last.Kind, last.Name)
			}
			return fmt.Sprintf("Mainstay is changed through Git: edit %s (line %d)%s on %s and push", t.Path, t.Line, what, branchOf(cluster))
		}
	}
	where := "the manifests"
	if dir := strings.Trim(cluster.Status.Path, "./"); dir != "" {
		where += " under " + dir + "/"
	}
	repo := ""
	if cluster.Status.Repo != "" {
		repo = " of " + cluster.Status.Repo
	}
	return fmt.Sprintf("Mainstay is changed through Git: edit %s on %s%s and push", where, branchOf(cluster), repo)
}

func branchOf(c *object.Cluster) string {
	if c.Status.Branch == "" {
		return "the branch that Mainstay follows"
	}
	return "branch " + c.Status.Branch
}

// clusterOf is the one Cluster, or an empty one while there is none.
func clusterOf(view state.Reader) *object.Cluster {
	for c := range state.List[*object.Cluster](view, "") {
		return c
	}
	return &object.Cluster{}
}

func remoteAdvice(view *state.Snapshot, at place) string {
	pod, ok := state.Get[*corev1.Pod](view, at.key)
	if !ok || pod.Spec.NodeName == "" {
		return fmt.Sprintf("Mainstay only reads: it offers no %s", at.sub)
	}
	return fmt.Sprintf("Mainstay only reads: it offers no %s; Pod %s runs on node %s, on whose Docker Engine you can use docker", at.sub, pod.Name, pod.Spec.NodeName)
}
