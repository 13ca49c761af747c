package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// follow wakes the polls of the nodes that changes of T concern. It follows them once for all nodes: thousands of agents
// must not each look at every change.
func follow[T object.Object](ctx context.Context, a *API, concerned func(state.Change[T]) []string) error {
	for {
		feed := state.Changes[T](a.Store, a.Store.View().Version)
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

// nodePods answers as soon as what the node should have differs from what it has.
func (a *API) nodePods(ctx context.Context, id Identity, req link.PodsRequest) (link.PodsResponse, error) {
	if err := itself(id, req.Node); err != nil {
		return link.PodsResponse{}, err
	}
	// A server that does not know everything yet must not call any Pod gone.
	if err := a.ready(); err != nil {
		return link.PodsResponse{}, err
	}
	if _, err := knownNode(a.Store.View(), req.Node); err != nil {
		return link.PodsResponse{}, err
	}
	a.seen(req.Node)
	defer a.seen(req.Node)
	if _, err := a.waitFor(ctx, state.Version(req.After)); err != nil {
		return link.PodsResponse{}, apierrors.NewServiceUnavailable(fmt.Sprintf(
			"this server has not seen version %d yet; ask another one", req.After))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, min(max(req.Wait.Duration, 0), maxPoll), errNothingNew)
	defer cancel()
	for {
		woken := a.polls.wait(req.Node)
		resp := podsFor(a.Store.View(), req)
		if len(resp.Pods) > 0 || len(resp.Gone) > 0 || !slices.Equal(resp.Pull, req.Pull) {
			return resp, nil
		}
		select {
		case <-woken:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errNothingNew) {
				return link.PodsResponse{}, cause
			}
			return resp, nil
		}
	}
}

// podsFor is the difference between what a node has and what it should have, and the images it is to pull. What it has and
// is not bound to it, here or any more, is gone.
func podsFor(view *state.Snapshot, req link.PodsRequest) link.PodsResponse {
	resp := link.PodsResponse{Version: uint64(view.Version)}
	wanted := make(map[types.UID]bool, len(req.Have))
	for pod := range state.ListBy(view, tables.PodsByNode, req.Node) {
		wanted[pod.UID] = true
		if version, has := req.Have[pod.UID]; !has || version != pod.ResourceVersion {
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
