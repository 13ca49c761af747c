package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// maxPoll bounds a long poll, which is also how often a node shows that it lives.
const maxPoll = time.Minute

// errNothingNew ends a long poll in which nothing happened.
var errNothingNew = errors.New("nothing new")

// polls wakes the long polls of nodes. The zero value is ready.
type polls struct {
	mu    sync.Mutex
	nodes map[string]chan struct{} // by node with a poll open, closed to wake it; guarded by mu
	// news is the version of each Pod's newest change that its node has to hear of. What changes most is a Pod's status, and
	// of that its node is the author. Guarded by mu.
	news map[types.UID]state.Version
}

// wait returns a channel that is closed when something may have changed for a node.
func (p *polls) wait(node string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes == nil {
		p.nodes = map[string]chan struct{}{}
	}
	if p.nodes[node] == nil {
		p.nodes[node] = make(chan struct{})
	}
	return p.nodes[node]
}

func (p *polls) wake(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if woken, ok := p.nodes[node]; ok {
		close(woken)
		delete(p.nodes, node)
	}
}

func (p *polls) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, woken := range p.nodes {
		close(woken)
	}
	clear(p.nodes)
}

// missed says whether a node that has a Pod at a version has to hear of it. One that comes from elsewhere than the past of
// this store says nothing.
func (p *polls) missed(pod *corev1.Pod, has string) bool {
	if has == pod.ResourceVersion {
		return false
	}
	had, err := parseVersion(has)
	if err != nil {
		return true
	}
	now, _ := parseVersion(pod.ResourceVersion) // the store has formatted it
	p.mu.Lock()
	defer p.mu.Unlock()
	news, followed := p.news[pod.UID]
	return !followed || had < news || had > now
}

// begin takes every Pod of a snapshot for news.
func (p *polls) begin(snap *state.Snapshot) {
	news := make(map[types.UID]state.Version, state.Len[*corev1.Pod](snap))
	for pod := range state.List[*corev1.Pod](snap, "") {
		news[pod.UID], _ = parseVersion(pod.ResourceVersion) // the store has formatted it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.news = news
}

// podChanged names the nodes that have to hear of a change, and notes that they have to.
func (p *polls) podChanged(c state.Change[*corev1.Pod]) []string {
	if statusAlone(c) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Old != nil && (c.New == nil || c.New.UID != c.Old.UID) {
		delete(p.news, c.Old.UID)
	}
	if c.New != nil {
		p.news[c.New.UID] = c.Version
	}
	return boundTo(c)
}

// statusAlone says whether a change is of nothing but a Pod's status. What changes a spec raises the generation.
func statusAlone(c state.Change[*corev1.Pod]) bool {
	return c.Old != nil && c.New != nil && c.Old.UID == c.New.UID && c.Old.Generation == c.New.Generation &&
		apiequality.Semantic.DeepEqual(withoutVersion(&c.Old.ObjectMeta), withoutVersion(&c.New.ObjectMeta))
}

func withoutVersion(m *metav1.ObjectMeta) metav1.ObjectMeta {
	same := *m
	same.ResourceVersion = ""
	return same
}

// follow wakes the polls of the nodes that changes of T concern. It follows them once for all nodes: thousands of agents
// must not each look at every change.
func follow[T object.Object](ctx context.Context, a *API, begin func(*state.Snapshot), concerned func(state.Change[T]) []string) error {
	for {
		snap := a.Store.View()
		begin(snap)
		feed := state.Changes[T](a.Store, snap.Version)
		a.polls.wakeAll() // whatever happened before the feed began
		err := wakeFor(ctx, &a.polls, feed, concerned)
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

func wakeFor[T object.Object](ctx context.Context, p *polls, feed *state.Feed[T], concerned func(state.Change[T]) []string) error {
	changes := make([]state.Change[T], watchBatch)
	for {
		n, err := feed.Next(ctx, changes)
		if err != nil {
			return err
		}
		for _, c := range changes[:n] {
			for _, node := range concerned(c) {
				p.wake(node)
			}
		}
		clear(changes[:n])
	}
}

// boundTo names the nodes that a Pod was and is bound to.
func boundTo(c state.Change[*corev1.Pod]) []string {
	var nodes []string
	for _, pod := range []*corev1.Pod{c.Old, c.New} {
		if pod != nil {
			nodes = append(nodes, pod.Spec.NodeName)
		}
	}
	return nodes
}

// pullsOther names a node that is to pull other images than before.
func pullsOther(c state.Change[*corev1.Node]) []string {
	if c.Old == nil || c.New == nil || c.Old.Annotations[object.PullAnnotation] == c.New.Annotations[object.PullAnnotation] {
		return nil
	}
	return []string{c.New.Name}
}

// nodePods answers as soon as what the node should have differs from what it has. Thousands wait in it, so that it and its callers hold
// little on their stacks: a stack shrinks when three quarters of it are free.
func (a *API) nodePods(ctx context.Context, id Identity, req *link.PodsRequest) (*link.PodsResponse, error) {
	if err := itself(id, req.Node); err != nil {
		return nil, err
	}
	// A server that does not know everything yet must not call any Pod gone.
	if err := a.ready(); err != nil {
		return nil, err
	}
	if err := a.certain(ctx, func(view state.Reader) error { _, err := heardNode(view, req.Node); return err }); err != nil {
		return nil, err
	}
	a.seen(req.Node) // now, and not when the poll ends: that it was answered is no sign that anybody still listens
	if _, err := a.waitFor(ctx, state.Version(req.After)); err != nil {
		return nil, unavailable(fmt.Sprintf("this server has not seen version %d yet; ask another one", req.After))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, min(max(req.Wait.Duration, 0), maxPoll), errNothingNew)
	defer cancel()
	for {
		woken := a.polls.wait(req.Node)
		resp := a.podsFor(a.Store.View(), req)
		if len(resp.Pods) > 0 || len(resp.Gone) > 0 || !slices.Equal(resp.Pull, req.Pull) {
			return resp, nil
		}
		select {
		case <-woken:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errNothingNew) {
				return nil, cause
			}
			return resp, nil
		}
	}
}

// podsFor is the difference between what a node has and what it should have, and the images it is to pull. What it has and
// is not bound to it, here or any more, is gone.
func (a *API) podsFor(view *state.Snapshot, req *link.PodsRequest) *link.PodsResponse {
	resp := &link.PodsResponse{Store: clusterOf(view).Status.Store, Version: uint64(view.Version), Servers: tables.ServerAddresses(view)}
	if a.Authority != nil {
		resp.Authority = a.Authority()
	}
	wanted := make(map[types.UID]bool, len(req.Have))
	for pod := range state.ListBy(view, tables.PodsByNode, req.Node) {
		wanted[pod.UID] = true
		if version, has := req.Have[pod.UID]; !has || a.polls.missed(pod, version) {
			resp.Pods = append(resp.Pods, *pod)
		}
	}
	for uid := range req.Have {
		if !wanted[uid] {
			resp.Gone = append(resp.Gone, uid)
		}
	}
	slices.Sort(resp.Gone)
	if node, ok := state.Get[*corev1.Node](view, state.Key{Name: req.Node}); ok {
		resp.Pull = object.WantedImages(node)
	}
	return resp
}
