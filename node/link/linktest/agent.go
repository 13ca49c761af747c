// Package linktest has an agent that is nothing but its side of the protocol: it runs no container, and its Pods are ready a
// moment after they are asked for. Thousands of them fit into one process, to see what they ask of a server. It is for tests
// and benchmarks alone. Start at Agent.
package linktest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	// pollWait is that of a real agent.
	pollWait = 10 * time.Second
	// retry is the pause after a call that failed.
	retry = 500 * time.Millisecond
)

// Agent is a node without an engine. All fields are to be set before Run, which may be called again after it has returned: the
// Pods outlive it, as containers outlive an agent.
type Agent struct {
	Name, Cluster string
	Server        string       // base URL
	Client        *http.Client // brings the node's certificate
	Address       netip.Addr   // the node's
	// Start is how long a Pod takes from being asked for to being Ready.
	Start time.Duration
	// Failed is told of calls that failed and are tried again.
	Failed func(error)

	mu      sync.Mutex
	store   string                    // guarded by mu
	podCIDR netip.Prefix              // guarded by mu
	pods    map[types.UID]*pod        // guarded by mu
	have    map[types.UID]string      // as told to the server; guarded by mu
	unsent  map[types.UID]bool        // pods whose status is to be reported; guarded by mu
	removed map[types.UID]link.PodRef // not acknowledged yet; guarded by mu
	wake    chan struct{}             // capacity 1: a token, not a queue
	once    sync.Once
}

// Run is the agent's life until ctx ends: it registers, polls for Pods and for the network, and reports.
func (a *Agent) Run(ctx context.Context) {
	a.once.Do(func() {
		a.pods, a.have, a.unsent, a.removed = map[types.UID]*pod{}, map[types.UID]string{}, map[types.UID]bool{}, map[types.UID]link.PodRef{}
		a.wake = make(chan struct{}, 1)
	})
	var g errgroup.Group
	g.Go(func() error { a.pollPods(ctx); return nil })
	g.Go(func() error { a.pollNetwork(ctx); return nil })
	g.Go(func() error { a.report(ctx); return nil })
	_ = g.Wait() // none of them fails
}

// pollPods registers, and again whenever the server does not know the node, and follows which Pods it wants here.
func (a *Agent) pollPods(ctx context.Context) {
	registered, after := false, uint64(0)
	for ctx.Err() == nil {
		var err error
		if !registered {
			after, err = a.register(ctx)
			registered = err == nil
		}
		if err == nil {
			after, err = a.pollOnce(ctx, after)
		}
		if err != nil {
			registered = registered && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err)
			a.pause(ctx, err)
		}
	}
}

func (a *Agent) pause(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if a.Failed != nil {
		a.Failed(fmt.Errorf("node %s: %w", a.Name, err))
	}
	select {
	case <-time.After(retry):
	case <-ctx.Done():
	}
}

func (a *Agent) register(ctx context.Context) (version uint64, err error) {
	r := link.Registration{Cluster: a.Cluster, Node: a.node(), Address: netip.AddrPortFrom(a.Address, 10250).String(), Pods: []corev1.Pod{}}
	a.mu.Lock()
	for uid, p := range a.pods {
		r.Pods = append(r.Pods, p.object(uid))
	}
	a.mu.Unlock()
	var got link.Registered
	if err := a.post(ctx, link.PathRegister, r, &got); err != nil {
		return 0, err
	}
	podCIDR, err := netip.ParsePrefix(got.PodCIDR)
	if err != nil {
		return 0, fmt.Errorf("range of Pods: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.podCIDR, a.store = podCIDR, got.Store
	for uid := range a.have {
		a.have[uid] = ""
	}
	return got.Version, nil
}

// wantedPods is what of a PodsResponse this agent reads; the rest of each Pod is for engines.
type wantedPods struct {
	Version uint64 `json:"version"`
	Pods    []struct {
		Metadata struct {
			link.PodRef
			ResourceVersion   string       `json:"resourceVersion"`
			DeletionTimestamp *metav1.Time `json:"deletionTimestamp"`
		} `json:"metadata"`
		Spec struct {
			Containers []container `json:"containers"`
		} `json:"spec"`
	} `json:"pods"`
	Gone []types.UID `json:"gone"`
}

func (a *Agent) pollOnce(ctx context.Context, after uint64) (uint64, error) {
	a.mu.Lock()
	have := maps.Clone(a.have)
	a.mu.Unlock()
	var got wantedPods
	err := a.post(ctx, link.PathPods, link.PodsRequest{Node: a.Name, After: after, Have: have, Wait: metav1.Duration{Duration: pollWait}}, &got)
	if err != nil {
		return after, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range got.Pods {
		uid := p.Metadata.UID
		a.have[uid] = p.Metadata.ResourceVersion
		if p.Metadata.DeletionTimestamp != nil {
			a.removed[uid] = p.Metadata.PodRef
			a.forget(uid)
		} else if a.pods[uid] == nil && a.removed[uid].UID == "" {
			a.pods[uid] = a.newPod(p.Metadata.PodRef, p.Spec.Containers)
			time.AfterFunc(a.Start, func() { a.SetReady(uid, "") })
		}
	}
	for _, uid := range got.Gone {
		delete(a.have, uid)
		a.forget(uid)
	}
	a.signal()
	return got.Version, nil
}

// forget lets go of a Pod. The caller holds mu.
func (a *Agent) forget(uid types.UID) {
	delete(a.pods, uid)
	delete(a.unsent, uid)
}

// pollNetwork follows the cluster's network as every agent does, though nothing is routed.
func (a *Agent) pollNetwork(ctx context.Context) {
	var known struct {
		Store   string `json:"store"`
		Version uint64 `json:"version"`
	}
	for ctx.Err() == nil {
		req := link.NetworkRequest{Node: a.Name, Store: known.Store, After: known.Version, Wait: metav1.Duration{Duration: pollWait}}
		if err := a.postForHead(ctx, link.PathNetwork, req, &known); err != nil {
			a.pause(ctx, err)
		}
	}
}
