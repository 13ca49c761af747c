// Package docker runs Pods on a Docker Engine: it is the real runtime.Runtime and the only importer of Docker's client. A Pod
// is a sandbox container that holds the network namespace, plugged by podnet, and one container per attempt of each of
// the Pod's containers. Who is who is in their labels; a name is for people. Whatever does not carry the cluster's label
// is not touched, and what is kept in memory is only ever a copy of what the engine says. Start at Runtime.EnsureSandbox.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/docker/docker/client"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// readTimeout bounds calls that change nothing: a hung engine must not hang its caller.
	readTimeout = 5 * time.Second
	// changeTimeout bounds calls that change something; with 50 Pods starting on 2 cores one start can take 10 s.
	changeTimeout = time.Minute
)

// Config says what to run Pods with.
type Config struct {
	Cluster string     // the cluster's id; containers with another one are not ours
	Host    string     // the engine, as $DOCKER_HOST; its default if empty
	DataDir string     // volumes and files of Pods are made below it
	NodeIP  netip.Addr // what is reported as the address of Pods on the host's network; may be zero
	Log     *slog.Logger
}

// Runtime implements runtime.Runtime.
type Runtime struct {
	config Config
	cli    *client.Client
	pause  pauseImage
	known  *memory
	pods   keyedMutex // by uid: one sandbox is made at a time

	mu      sync.Mutex
	network *podnet.Network // guarded by mu; cannot plug before Configure
	given   runtime.Network // guarded by mu; what Configure was called with
	ready   bool            // guarded by mu; Configure was called
	synced  time.Time       // guarded by mu; when the network was last looked over
	peers   []podnet.Peer   // guarded by mu; what SetPeers was last called with
	peered  bool            // guarded by mu; SetPeers was called
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns a runtime; the engine need not answer yet. Close it after use.
func New(config Config) (*Runtime, error) {
	dir, err := filepath.Abs(config.DataDir) // the engine takes no other paths
	if err != nil {
		return nil, err
	}
	config.DataDir = dir
	options := []client.Opt{client.WithAPIVersionNegotiation()}
	if config.Host != "" {
		options = append(options, client.WithHost(config.Host))
	} else {
		options = append(options, client.FromEnv)
	}
	cli, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w: it is like unix:///var/run/docker.sock", config.Host, err)
	}
	pause, err := newPauseImage(goruntime.GOARCH)
	if err != nil {
		return nil, err
	}
	network, err := podnet.Open(podnet.Config{Cluster: config.Cluster})
	if err != nil {
		return nil, err
	}
	return &Runtime{config: config, cli: cli, pause: pause, network: network, known: newMemory()}, nil
}

// Close releases connections. Pods run on.
func (r *Runtime) Close() error {
	r.net().Close()
	return r.cli.Close()
}

// Configure implements runtime.Runtime. It repairs the network of the Pods that are there.
func (r *Runtime) Configure(ctx context.Context, network runtime.Network) error {
	if !network.PodCIDR.IsValid() {
		return errors.New("the Pod address range is empty")
	}
	if err := r.openNetwork(network); err != nil {
		return err
	}
	pods, err := r.Pods(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.syncNetwork(ctx, pods), r.connectPeers(ctx))
}

// SetPeers makes the Pods of these nodes reachable from here, and those of all others not; this node is among them. Called
// before Configure it takes effect with that. See podnet.Network.SetPeers for the errors.
func (r *Runtime) SetPeers(ctx context.Context, peers []podnet.Peer) error {
	r.mu.Lock()
	r.peers, r.peered = peers, true
	r.mu.Unlock()
	return r.connectPeers(ctx)
}

// PodInterface is the name of the device by which this node reaches its own Pods.
func (r *Runtime) PodInterface() string { return r.net().Name() }

// connectPeers gives the network in use the peers, once both are known.
func (r *Runtime) connectPeers(ctx context.Context) error {
	r.mu.Lock()
	network, peers, due := r.network, r.peers, r.ready && r.peered
	r.mu.Unlock()
	if !due {
		return nil
	}
	return network.SetPeers(ctx, peers)
}

// openNetwork makes the network the one in use, unless it is already.
func (r *Runtime) openNetwork(network runtime.Network) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready && r.given == network {
		return nil
	}
	opened, err := podnet.Open(podnet.Config{Cluster: r.config.Cluster, Pods: network.PodCIDR, Local: network.ClusterCIDR})
	if err != nil {
		return err
	}
	// The old one stays open for whoever uses it right now; it holds one socket.
	r.network, r.given, r.ready, r.synced = opened, network, true, time.Time{}
	return nil
}

func (r *Runtime) net() *podnet.Network {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.network
}

// plugger is the network, once it can plug.
func (r *Runtime) plugger() (*podnet.Network, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready {
		return nil, runtime.ErrNotConfigured
	}
	return r.network, nil
}

// syncEvery spaces repairs of the network: each runs a few programs. It is less than the agent's regular looks are apart, so
// that each of them repairs.
const syncEvery = 8 * time.Second

// syncDue tells whether the network should be looked over, and takes it that the caller does so.
func (r *Runtime) syncDue(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready || now.Sub(r.synced) < syncEvery {
		return false
	}
	r.synced = now
	return true
}

func (r *Runtime) syncNetwork(ctx context.Context, pods []runtime.Pod) error {
	var ports []podnet.Port
	for _, p := range pods {
		if p.Sandbox.Running && !p.Pod.Spec.HostNetwork {
			ports = append(ports, podnet.Port{Key: p.Sandbox.ID, HostPorts: hostPorts(p.Pod)})
		}
	}
	return r.net().Sync(ctx, ports)
}

// Cleanup removes every Pod of the cluster, its network and the sandboxes' image from the host. Images of Pods stay: they are
// anybody's to use.
func (r *Runtime) Cleanup(ctx context.Context) error {
	pods, err := r.Pods(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range pods {
		errs = append(errs, r.RemovePod(ctx, p.Pod.UID))
	}
	return errors.Join(append(errs, r.net().Cleanup(ctx), r.removePause(ctx))...)
}

const podsDir = "pods"

// podDir is where everything of a Pod is that is not in the engine.
func (r *Runtime) podDir(uid string) (string, error) {
	if uid == "." || !filepath.IsLocal(uid) || filepath.Base(uid) != uid {
		return "", fmt.Errorf("the Pod's uid %q cannot name a directory", uid)
	}
	return filepath.Join(r.config.DataDir, podsDir, uid), nil
}

// within bounds a call to the engine; the cause says which one took too long.
func within(ctx context.Context, limit time.Duration, doing string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: the Docker Engine did not answer within %s", doing, limit))
}

// because replaces the error of an ended context by the reason it ended for.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func podName(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// keyedMutex is a mutex per key, which exists while somebody holds or awaits it.
type keyedMutex struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	users int
}

// lock returns the function that unlocks.
func (k *keyedMutex) lock(key string) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyLock{}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
}
