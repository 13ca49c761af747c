// Package runtimetest holds the suite that every runtime.Runtime passes (Run) and an in-memory runtime for tests of what
// stands above it (Fake). The Fake behaves, it does not record scripts of calls: containers run, exit, ignore signals and
// are killed behind the agent's back. All its time is time.AfterFunc and time.Now, so it works under testing/synctest.
// Start at NewFake.
package runtimetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Behaviour is what a container does once it is started. The zero value runs until it is told to stop, and exits 0 then.
type Behaviour struct {
	StartErr    error         // the engine refuses to start it; the attempt stays listed as Exited with this message
	Exits       bool          // it ends by itself
	RunFor      time.Duration // how long it runs before that
	ExitCode    int           // with Exits, and upon the stop signal
	IgnoresTerm bool          // it dies only by SIGKILL, after the whole grace period
	OOMKilled   bool          // with Exits: the kernel killed it
	Output      string        // what Logs returns
}

// Call is one call of the interface, as Intercept and Calls see it.
type Call struct {
	Method    string    // the interface method's name
	UID       types.UID // of the Pod, if the call names one or a container of it
	Container string    // name, if the call is about one
	Image     string    // for EnsureImage
}

// Fake is an in-memory runtime.Runtime. Everything is safe for concurrent use.
type Fake struct {
	mu        sync.Mutex
	network   runtime.Network
	nextID    int
	pods      map[types.UID]*fakePod
	images    map[string]bool // ref → on the node
	room      runtime.Room
	registry  map[string]error // ref → what a pull says; nil lets it succeed
	calls     []Call
	listeners map[*listener]bool
	behave    func(runtime.ContainerConfig) Behaviour
	onExec    func(runtime.Container, []string) (int, []byte, error)
	intercept func(context.Context, Call) error
	used      map[netip.Addr]bool
}

type fakePod struct {
	pod        *corev1.Pod
	sandbox    runtime.Sandbox
	containers []*fakeContainer
}

type fakeContainer struct {
	runtime.Container
	uid       types.UID
	sandbox   string
	behaviour Behaviour
	exit      *time.Timer
	done      chan struct{} // closed when it is no longer running; nil before it started
}

// HostIP is the address of Pods that use the host's network on a Fake.
var hostIP = netip.MustParseAddr("192.0.2.1")

// NewFake returns a runtime without Pods. The images given are on the node; pulling any other fails until SetRegistry says otherwise.
func NewFake(images ...string) *Fake {
	f := &Fake{
		pods: map[types.UID]*fakePod{}, images: map[string]bool{}, registry: map[string]error{},
		listeners: map[*listener]bool{}, used: map[netip.Addr]bool{}, behave: interpret, onExec: interpretExec,
	}
	for _, ref := range images {
		f.images[ref] = true
	}
	return f
}

// enter records the call, and lets the test delay or fail it.
func (f *Fake) enter(ctx context.Context, c Call) error {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	intercept := f.intercept
	f.mu.Unlock()
	if intercept != nil {
		if err := intercept(ctx, c); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// SetRoom says what the host has left; before, that is not measured.
func (f *Fake) SetRoom(room runtime.Room) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = room
}

// Info implements runtime.Runtime: 4 cores, 8 GiB, 100 GiB.
func (f *Fake) Info(ctx context.Context) (runtime.Info, error) {
	if err := f.enter(ctx, Call{Method: "Info"}); err != nil {
		return runtime.Info{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info := runtime.Info{
		Engine: "fake://1.0", OperatingSystem: "Fake OS", Architecture: "amd64", KernelVersion: "6.0", LiveRestore: true, Room: f.room,
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		},
	}
	for ref, present := range f.images {
		if present {
			info.Images = append(info.Images, corev1.ContainerImage{Names: []string{ref}, SizeBytes: 1 << 20})
		}
	}
	slices.SortFunc(info.Images, func(a, b corev1.ContainerImage) int { return cmp.Compare(a.Names[0], b.Names[0]) })
	return info, nil
}

// Configure implements runtime.Runtime.
func (f *Fake) Configure(ctx context.Context, network runtime.Network) error {
	if err := f.enter(ctx, Call{Method: "Configure"}); err != nil {
		return err
	}
	if !network.PodCIDR.IsValid() {
		return errors.New("the Pod address range is empty")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.network = network
	return nil
}

// Pods implements runtime.Runtime.
func (f *Fake) Pods(ctx context.Context) ([]runtime.Pod, error) {
	if err := f.enter(ctx, Call{Method: "Pods"}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pods := make([]runtime.Pod, 0, len(f.pods))
	for _, p := range f.pods {
		pod := runtime.Pod{Pod: p.pod.DeepCopy(), Sandbox: p.sandbox}
		pod.Sandbox.Running = f.usable(p)
		for _, c := range p.containers {
			pod.Containers = append(pod.Containers, c.Container)
		}
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, func(a, b runtime.Pod) int { return cmp.Compare(a.Pod.UID, b.Pod.UID) })
	return pods, nil
}

// EnsureImage implements runtime.Runtime.
func (f *Fake) EnsureImage(ctx context.Context, ref string, policy corev1.PullPolicy) (string, error) {
	if err := f.enter(ctx, Call{Method: "EnsureImage", Image: ref}); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := "sha256:" + ref
	if f.images[ref] && policy != corev1.PullAlways {
		return id, nil
	}
	if policy == corev1.PullNever {
		return "", fmt.Errorf("image %s: %w", ref, runtime.ErrImageNeverPull)
	}
	refusal, known := f.registry[ref]
	if !known {
		refusal = errors.New("manifest unknown")
	}
	if refusal != nil {
		return "", &runtime.ImageError{Image: ref, Err: refusal}
	}
	f.images[ref] = true
	return id, nil
}

// Exec implements runtime.Runtime.
func (f *Fake) Exec(ctx context.Context, id string, command []string) (int, []byte, error) {
	c := f.find(id)
	if err := f.enter(ctx, callOn("Exec", c)); err != nil {
		return 0, nil, err
	}
	f.mu.Lock()
	onExec := f.onExec
	f.mu.Unlock()
	switch snapshot := f.find(id); {
	case snapshot == nil:
		return 0, nil, fmt.Errorf("exec in container %s: %w", id, runtime.ErrNotFound)
	case snapshot.State != runtime.Running:
		return 0, nil, fmt.Errorf("exec in container %s: it is %s", id, snapshot.State)
	default:
		return onExec(snapshot.Container, command)
	}
}

// Logs implements runtime.Runtime. Follow ends with the container.
func (f *Fake) Logs(ctx context.Context, id string, opts runtime.LogOptions) (io.ReadCloser, error) {
	c := f.find(id)
	if err := f.enter(ctx, callOn("Logs", c)); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("logs of container %s: %w", id, runtime.ErrNotFound)
	}
	return newLogReader(ctx, c, opts), nil
}

// Events implements runtime.Runtime.
func (f *Fake) Events(ctx context.Context) iter.Seq2[runtime.Event, error] {
	return func(yield func(runtime.Event, error) bool) {
		if err := f.enter(ctx, Call{Method: "Events"}); err != nil {
			yield(runtime.Event{}, err)
			return
		}
		l := f.listen()
		defer f.unlisten(l)
		if !yield(runtime.Event{}, nil) {
			return
		}
		for {
			uids, err := l.next(ctx)
			for _, uid := range uids {
				if !yield(runtime.Event{UID: uid}, nil) {
					return
				}
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(runtime.Event{}, err)
				}
				return
			}
		}
	}
}
