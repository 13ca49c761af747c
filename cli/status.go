package cli

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/object"
)

// statusOptions are what `status` was asked for.
type statusOptions struct {
	connection
	output *format
}

func statusCommand() *cobra.Command {
	o := &statusOptions{}
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: GroupCluster,
		Short:   "Show what the branch says, what runs, and what lies between them",
		Long: `Shows in one screen what the branch says, what runs, and what lies between them: the branch's head and the commit in force, the
servers, the nodes, the Pods, what is not ready and why, and the latest warnings.

If too few servers answer for anything to be written, it says so, and shows what the one that it asked has.

Exits with 0 if the branch's head is in force and everything it declares runs, else with 1.`,
		Example: `  mainstay status
  mainstay status -o json | jq .converged
  watch mainstay status`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.addFlags(cmd)
	o.output = addOutput(cmd)
	return cmd
}

// Status is the output of `status -o json`, which is stable.
type Status struct {
	Cluster    string         `json:"cluster"`
	Server     string         `json:"server"`
	Repository Repository     `json:"repository"`
	Revision   *Commit        `json:"revision,omitempty"` // in force
	Rejected   *Commit        `json:"rejected,omitempty"` // the branch's head, if it was rejected
	Converged  bool           `json:"converged"`          // the head is in force and all it declares runs
	Why        string         `json:"why,omitempty"`      // not Converged
	Nodes      NodeSummary    `json:"nodes"`
	Pods       PodSummary     `json:"pods"`
	NotReady   []Workload     `json:"notReady"`
	Warnings   []EventSummary `json:"warnings"`         // the latest, newest first
	Paused     []string       `json:"paused,omitempty"` // what the cluster does not do now, and why
	Servers    []Server       `json:"servers,omitempty"`
	NoQuorum   string         `json:"noQuorum,omitempty"` // why nothing can be written: all the rest is what Server has, perhaps out of date
}

// Repository is what the cluster knows of its repository.
type Repository struct {
	URL     string       `json:"url"`
	Branch  string       `json:"branch"`
	Path    string       `json:"path,omitempty"`
	Head    string       `json:"head"`
	Error   string       `json:"error,omitempty"` // why it cannot be read now
	ErrorAt *metav1.Time `json:"errorAt,omitempty"`
}

// NodeSummary counts nodes and what Pods have asked for of them.
type NodeSummary struct {
	Total    int         `json:"total"`
	Ready    int         `json:"ready"`
	NotReady []NodeIssue `json:"notReady,omitempty"`
	CPU      Use         `json:"cpu"`    // in thousandths of a core
	Memory   Use         `json:"memory"` // in bytes
	Pods     Use         `json:"pods"`
}

// NodeIssue is a node that takes no Pods, and why.
type NodeIssue struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Use is how much of something is taken.
type Use struct {
	Requested   int64 `json:"requested"`
	Allocatable int64 `json:"allocatable"`
}

// PodSummary counts Pods. Those that are being removed are counted apart, as the phase Terminating.
type PodSummary struct {
	Total  int            `json:"total"` // but those being removed
	Ready  int            `json:"ready"` // likewise
	Phases map[string]int `json:"phases"`
}

// Workload is a Deployment, ReplicaSet or bare Pod of which not everything is ready.
type Workload struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Ready     int32  `json:"ready"`             // of an older template, too
	Updated   *int32 `json:"updated,omitempty"` // how many are of the newest template; only of a Deployment
	Desired   int32  `json:"desired"`
	Reason    string `json:"reason,omitempty"`
	Pod       string `json:"pod,omitempty"` // that Reason is about
}

// EventSummary is one warning.
type EventSummary struct {
	Time      metav1.Time `json:"time"`
	Count     int32       `json:"count"`
	Namespace string      `json:"namespace,omitempty"`
	Object    string      `json:"object"` // kind/name
	Reason    string      `json:"reason"`
	Message   string      `json:"message"`
}

func (o *statusOptions) run(cmd *cobra.Command) error {
	c, err := o.open()
	if err != nil {
		return err
	}
	servers, err := readServers(cmd.Context(), c)
	if err != nil {
		return err
	}
	var query url.Values
	if servers.lack() != "" {
		query = url.Values{"resourceVersion": {"0"}}
	}
	facts, err := readFacts(cmd.Context(), c, query)
	if err != nil {
		return err
	}
	now := time.Now()
	s := facts.status(now)
	s.Server = c.server().Host
	s.addServers(servers)
	if o.output.isData() {
		err = o.output.write(cmd.OutOrStdout(), s)
	} else {
		err = printStatus(cmd.OutOrStdout(), s, now)
	}
	if err == nil && !s.Converged {
		return errSaidNo
	}
	return err
}

// facts are the objects that a status is made of.
type facts struct {
	cluster     object.Cluster
	revisions   []*object.Revision
	nodes       []*corev1.Node
	pods        []*corev1.Pod
	deployments []*appsv1.Deployment
	replicaSets []*appsv1.ReplicaSet
	events      []*corev1.Event
}

func readFacts(ctx context.Context, c *client, query url.Values) (*facts, error) {
	f := &facts{}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { f.cluster, err = clusterOf(ctx, c, query); return err })
	g.Go(func() (err error) { f.revisions, _, err = list[*object.Revision](ctx, c, "", query); return err })
	g.Go(func() (err error) { f.nodes, _, err = list[*corev1.Node](ctx, c, "", query); return err })
	g.Go(func() (err error) { f.pods, _, err = list[*corev1.Pod](ctx, c, "", query); return err })
	g.Go(func() (err error) { f.deployments, _, err = list[*appsv1.Deployment](ctx, c, "", query); return err })
	g.Go(func() (err error) { f.replicaSets, _, err = list[*appsv1.ReplicaSet](ctx, c, "", query); return err })
	g.Go(func() (err error) { f.events, _, err = list[*corev1.Event](ctx, c, "", query); return err })
	return f, g.Wait()
}

// clusterOf is the cluster's own object, empty if there is none yet.
func clusterOf(ctx context.Context, c *client, query url.Values) (object.Cluster, error) {
	clusters, _, err := list[*object.Cluster](ctx, c, "", query)
	if err != nil || len(clusters) == 0 {
		return object.Cluster{}, err
	}
	return *clusters[0], nil
}

func (f *facts) status(now time.Time) Status {
	cl := f.cluster.Status
	s := Status{
		Cluster:    f.cluster.Name,
		Repository: Repository{URL: cl.Repo, Branch: cl.Branch, Path: cl.Path, Head: cl.Head, Error: cl.Error, ErrorAt: cl.ErrorAt},
		Nodes:      nodeSummary(f.nodes, f.pods),
		Pods:       podSummary(f.pods),
		NotReady:   f.notReady(),
		Warnings:   f.latestWarnings(now),
		Paused:     paused(&f.cluster),
	}
	for _, r := range f.revisions {
		commit := commitOf(r, cl.Revision)
		if commit.InForce {
			s.Revision = &commit
		}
		if r.Spec.Commit == cl.Head && r.Status.Phase == object.RevisionRejected {
			s.Rejected = &commit
		}
	}
	s.Why = why(s)
	s.Converged = s.Why == ""
	return s
}

// paused says what the cluster does not do now, and why.
func paused(cluster *object.Cluster) (texts []string) {
	for _, c := range cluster.Status.Conditions {
		if c.Status == metav1.ConditionTrue && (c.Type == object.EvictionsPaused || c.Type == object.Recovering) {
			texts = append(texts, c.Message)
		}
	}
	return texts
}

// why says what keeps the cluster from being what the branch says, "" if nothing does.
func why(s Status) string {
	switch {
	case s.Repository.Error != "":
		return "the repository cannot be read"
	case s.Rejected != nil:
		return "the branch's head " + short(s.Rejected.Commit) + " was rejected: " + plural(s.Rejected.Total, "problem")
	case s.Revision == nil && s.Repository.Head == "":
		return "no commit has been seen yet"
	case s.Revision == nil:
		return "no commit is in force yet"
	case s.Repository.Head != "" && s.Revision.Commit != s.Repository.Head:
		return "the branch's head " + short(s.Repository.Head) + " is being taken in"
	case s.Revision.Phase == object.RevisionConverged && len(s.NotReady) == 0:
		return ""
	case s.Revision.Phase == object.RevisionConverged:
		return plural(len(s.NotReady), "workload") + " not ready"
	case s.Revision.Message != "":
		return oneLine(s.Revision.Message)
	case s.Revision.Phase == object.RevisionFailed:
		return "it failed"
	}
	return "its workloads are starting"
}

const (
	maxWarnings = 5
	// An event that is older says nothing about now.
	warningAge = time.Hour
)

// latestWarnings are those that may still say something about now, newest first.
func (f *facts) latestWarnings(now time.Time) []EventSummary {
	recent := []EventSummary{}
	slices.SortFunc(f.events, func(a, b *corev1.Event) int { return byTime(b, a) })
	pods := podsByName(f.pods)
	for _, e := range f.events {
		if len(recent) == maxWarnings {
			break
		}
		if e.Type != corev1.EventTypeWarning || now.Sub(eventTime(e)) > warningAge || isOver(e, pods) {
			continue
		}
		recent = append(recent, EventSummary{
			Time: metav1.NewTime(eventTime(e)), Count: max(e.Count, 1), Namespace: e.Namespace,
			Object: eventObject(e), Reason: oneLine(e.Reason), Message: oneLine(e.Message),
		})
	}
	return recent
}

func podsByName(pods []*corev1.Pod) map[types.NamespacedName]*corev1.Pod {
	byName := map[types.NamespacedName]*corev1.Pod{}
	for _, p := range pods {
		byName[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	return byName
}

// isOver reports whether the event is about a Pod that is gone, or about a probe of one that is Ready now.
func isOver(e *corev1.Event, pods map[types.NamespacedName]*corev1.Pod) bool {
	if e.InvolvedObject.Kind != "Pod" {
		return false
	}
	pod, ok := pods[types.NamespacedName{Namespace: e.Namespace, Name: e.InvolvedObject.Name}]
	if !ok || e.InvolvedObject.UID != "" && e.InvolvedObject.UID != pod.UID {
		return true
	}
	return e.Reason == reasonUnhealthy && podReady(pod)
}

// reasonUnhealthy is that of the events by which an agent repeats what a failed probe said.
const reasonUnhealthy = "Unhealthy"

// probeWords is what the Pod's probe said last, "" if none has failed.
func (f *facts) probeWords(pod *corev1.Pod) string {
	var last *corev1.Event
	for _, e := range f.events {
		about := e.InvolvedObject
		if e.Reason == reasonUnhealthy && about.Kind == "Pod" && about.Name == pod.Name && e.Namespace == pod.Namespace &&
			(about.UID == "" || about.UID == pod.UID) && (last == nil || byTime(last, e) < 0) {
			last = e
		}
	}
	if last == nil {
		return ""
	}
	return oneLine(last.Message)
}
