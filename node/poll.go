package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// pollWait is how long a server may hold a poll; it must beat the heartbeat's time to live.
	pollWait    = 10 * time.Second
	networkFile = "network.json"
)

// poll registers the node and then follows what servers want of it, until ctx ends.
func (a *agent) poll(ctx context.Context) error {
	var after uint64
	var failed time.Duration
	registered := false
	for ctx.Err() == nil {
		var err error
		if a.tookLoss() || !registered {
			after, err = a.register(ctx)
			registered = err == nil
		}
		if err == nil {
			after, err = a.once(ctx, after)
		}
		if err == nil {
			if failed > 0 {
				a.cfg.Log.Info("a server answers again")
			}
			failed = 0
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		registered = registered && !unknown(err)
		if failed == 0 {
			a.cfg.Log.Warn("no server answers; everything keeps running, and the agent keeps trying", "err", err)
		}
		failed = double(failed, firstRetry, maxRetry)
		pause(ctx, failed)
	}
	return nil
}

// errBackwards is a server whose store is not the one the node was registered with: what it calls gone may just be lost.
var errBackwards = errors.New("the server's store has begun anew")

// unknown reports whether a server does not know this node.
func unknown(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err) || errors.Is(err, errBackwards)
}

// noticeLost makes the poll register again, if err says that it must.
func (a *agent) noticeLost(err error) {
	if !unknown(err) {
		return
	}
	select {
	case a.lost <- struct{}{}:
	default:
	}
}

func (a *agent) tookLoss() bool {
	select {
	case <-a.lost:
		return true
	default:
		return false
	}
}

// once is one long poll.
func (a *agent) once(ctx context.Context, after uint64) (uint64, error) {
	a.mu.Lock()
	have := maps.Clone(a.have)
	a.mu.Unlock()
	resp, err := a.cfg.Client.Pods(ctx, link.PodsRequest{Node: a.cfg.Name, After: after, Have: have, Pull: a.pull.told(), Wait: metav1.Duration{Duration: pollWait}})
	if err != nil {
		return after, fmt.Errorf("poll for pods: %w", err)
	}
	if resp.Version < after || resp.Store != a.store {
		a.noticeLost(errBackwards)
		return after, fmt.Errorf("poll for pods: version %d of store %q after %d of %q: %w", resp.Version, resp.Store, after, a.store, errBackwards)
	}
	a.learn(resp.Servers)
	if a.cfg.Told != nil {
		a.cfg.Told(resp.Authority)
	}
	a.apply(ctx, resp)
	a.pull.want(resp.Pull)
	a.act()
	return resp.Version, nil
}

// learn takes in where the servers are, and has it kept for a restart.
func (a *agent) learn(servers []string) {
	if a.cfg.Client.Learn(servers) && a.cfg.Learned != nil {
		a.cfg.Learned(servers)
	}
}

// apply takes in what differs.
func (a *agent) apply(ctx context.Context, resp link.PodsResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = true
	for i := range resp.Pods {
		pod := &resp.Pods[i]
		_, waits := a.have[pod.UID] // for its removal to be acknowledged, if it has no worker
		a.have[pod.UID] = pod.ResourceVersion
		if w := a.workers[pod.UID]; w != nil {
			w.assign(pod)
		} else if !waits {
			a.employ(ctx, newWorker(a.tools, pod))
		}
	}
	for _, uid := range resp.Gone {
		delete(a.have, uid) // once is enough: what is asked for again would be answered at once, as long as it takes to stop
		if w := a.workers[uid]; w != nil {
			a.cfg.Log.Info("pod is not wanted here any more", "pod", w.ref.Namespace+"/"+w.ref.Name, "uid", uid)
			w.dismiss()
			continue
		}
		a.tools.reporter.forget(uid)
	}
}

// register tells a server what this node is and has, and returns the version in which that is known.
func (a *agent) register(ctx context.Context) (version uint64, err error) {
	a.settle(ctx)
	r := link.Registration{Cluster: a.cfg.Cluster, Address: a.cfg.Address, Pods: []corev1.Pod{}}
	for _, w := range a.all() {
		r.Pods = append(r.Pods, *w.snapshot())
	}
	a.mu.Lock()
	for uid := range a.have {
		if a.workers[uid] != nil {
			a.have[uid] = "" // another server, perhaps another store: its versions start anew
		}
	}
	v := a.vitals
	v.Ahead, v.RoutingError = a.pull.ahead(), a.tools.routes.Problem()
	v.Networked = v.NetworkError == "" // the range comes with the answer, and is in use before any Pod is
	r.Node = newNode(&a.cfg, a.tools.hostIPs, v, time.Now())
	if a.network.PodCIDR.IsValid() {
		r.Node.Spec.PodCIDR = a.network.PodCIDR.String()
	}
	keepTimes(&r.Node.Status, &a.sent)
	a.sent = r.Node.Status
	a.mu.Unlock()
	got, err := a.cfg.Client.Register(ctx, r)
	if err != nil {
		return 0, fmt.Errorf("register node %s: %w", a.cfg.Name, err)
	}
	a.store = got.Store
	a.learn(got.Servers)
	if err := a.configure(ctx, got); err != nil {
		return 0, err
	}
	a.cfg.Log.Info("node registered", "node", a.cfg.Name, "podCIDR", got.PodCIDR, "pods", len(r.Pods), "adopted", got.Adopted)
	return got.Version, nil
}

// settle gives probes of what runs already a moment to answer.
func (a *agent) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, w := range a.all() {
		select {
		case <-w.settled:
		case <-ctx.Done():
			return
		}
	}
}

// configure puts the Pod range to use and keeps it for a restart without servers.
func (a *agent) configure(ctx context.Context, got link.Registered) error {
	var network runtime.Network
	var err error
	if network.PodCIDR, err = netip.ParsePrefix(got.PodCIDR); err != nil {
		return fmt.Errorf("pod range of node %s: %w", a.cfg.Name, err)
	}
	if got.ClusterCIDR != "" {
		if network.ClusterCIDR, err = netip.ParsePrefix(got.ClusterCIDR); err != nil {
			return fmt.Errorf("pod range of the cluster: %w", err)
		}
	}
	if got.DNS != "" {
		if network.DNS, err = netip.ParseAddr(got.DNS); err != nil {
			return fmt.Errorf("nameserver of the cluster: %w", err)
		}
	}
	a.noteMove(network.PodCIDR)
	a.useNetwork(ctx, network)
	a.tools.looker.request() // Pods of another range have lost their addresses
	if a.cfg.DataDir == "" {
		return nil
	}
	raw, err := json.Marshal(network)
	if err != nil {
		return fmt.Errorf("encode pod range: %w", err)
	}
	err = os.MkdirAll(a.cfg.DataDir, 0o700)
	if err == nil {
		err = durable.ReplaceFile(filepath.Join(a.cfg.DataDir, networkFile), raw)
	}
	if err != nil {
		return fmt.Errorf("keep pod range: %w", err)
	}
	return nil
}

// noteMove tells of a Pod range that is not the one of before: a rebuilt server has given that to another node while this one was
// away. Pods with addresses of it start anew, since nobody could reach them any more.
func (a *agent) noteMove(to netip.Prefix) {
	a.mu.Lock()
	from, pods := a.network.PodCIDR, len(a.workers)
	a.mu.Unlock()
	if from.IsValid() && from != to {
		a.cfg.Log.Warn("this node's Pod range is another node's by now: its Pods start anew with other addresses", "former", from, "podCIDR", to, "pods", pods)
	}
}

// useNetwork puts a Pod range to use, or notes why that cannot be done: the node is then not Ready, and what runs here is
// looked after all the same.
func (a *agent) useNetwork(ctx context.Context, network runtime.Network) {
	err := a.cfg.Runtime.Configure(ctx, network)
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.vitals.NetworkError
	a.network, a.vitals.Networked, a.vitals.NetworkError = network, err == nil, ""
	if err != nil {
		a.vitals.NetworkError = fmt.Sprintf("configure Pod range %s: %v", network.PodCIDR, err)
	}
	if a.vitals.NetworkError == was {
		return
	}
	if err != nil {
		a.cfg.Log.Error("Pods get no addresses", "podCIDR", network.PodCIDR, "err", err)
	} else {
		a.cfg.Log.Info("Pods get addresses", "podCIDR", network.PodCIDR)
	}
	a.tellNews()
}

// retryNetwork tries again to use the Pod range, if that failed.
func (a *agent) retryNetwork(ctx context.Context) {
	a.mu.Lock()
	network, failed := a.network, a.vitals.NetworkError != ""
	a.mu.Unlock()
	if failed {
		a.useNetwork(ctx, network)
	}
}

// recallNetwork uses the Pod range of an earlier run, if one is kept: Pods may have to be restarted before a server answers.
func (a *agent) recallNetwork(ctx context.Context) {
	if a.cfg.DataDir == "" {
		return
	}
	var network runtime.Network
	raw, err := os.ReadFile(filepath.Join(a.cfg.DataDir, networkFile))
	if err == nil {
		err = json.Unmarshal(raw, &network)
	}
	if err == nil {
		a.useNetwork(ctx, network)
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		a.cfg.Log.Warn("the Pod range of the last run cannot be used; waiting for a server to give it", "err", err)
	}
}
