// Package runtime is the agent's interface to something that runs Pods. node/docker is the real one, runtimetest holds
// the suite that every implementation passes and an in-memory fake. Nothing here decides what should run.
package runtime

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Runtime runs Pods. Every method may be called concurrently, is idempotent, and returns when its context ends.
// What a Runtime made it recognises by labels alone, so it holds no state of its own that a restart could lose.
type Runtime interface {
	// Info describes the engine and the host it runs on.
	Info(ctx context.Context) (Info, error)

	// Configure tells the runtime which addresses its Pods take. EnsureSandbox fails until it was called. Called again with another
	// range, a sandbox with an address that is not of it counts as one that does not run, since others have that address now.
	Configure(ctx context.Context, network Network) error

	// Pods lists all Pods this cluster's agent ever made here and has not removed, running or not. One of which no container is
	// left, only files, has nothing but a uid.
	Pods(ctx context.Context) ([]Pod, error)

	// EnsureSandbox returns the running sandbox of p, made, started or plugged into the network as far as needed.
	// A sandbox that died is replaced; containers that still ran in the old one's network namespace are killed, and remain listed as exited.
	EnsureSandbox(ctx context.Context, p *corev1.Pod) (Sandbox, error)

	// EnsureImage makes the image present as the policy says and returns its id. ErrImageNeverPull if the policy is
	// Never and it is absent; an *ImageError where a pull was tried.
	EnsureImage(ctx context.Context, ref string, policy corev1.PullPolicy) (string, error)

	// StartContainer creates and starts one attempt of a container in the sandbox; if that attempt exists already it is only
	// started, and nothing is done if it has run. An attempt that the engine could not start stays listed as Exited, its Message saying why.
	StartContainer(ctx context.Context, s Sandbox, c ContainerConfig) error

	// StopContainer sends the image's stop signal, then SIGKILL after grace. A container that is gone or stopped is no error.
	StopContainer(ctx context.Context, id string, grace time.Duration) error

	// UnpauseContainer resumes a container that somebody froze.
	UnpauseContainer(ctx context.Context, id string) error

	// RemoveContainer removes a container that is not running.
	RemoveContainer(ctx context.Context, id string) error

	// RemovePod removes everything of the Pod: containers, sandbox, address, volumes. It kills what still runs.
	RemovePod(ctx context.Context, uid types.UID) error

	// Exec runs a command in a running container and returns its exit code and the first 10 KiB of its output.
	Exec(ctx context.Context, id string, command []string) (exitCode int, output []byte, err error)

	// Logs streams a container's output. The caller closes it.
	Logs(ctx context.Context, id string, opts LogOptions) (io.ReadCloser, error)

	// Events yields hints that something about a Pod changed, until ctx ends. The first one has no UID: it says that nothing
	// is missed from here on, so a full look taken then and the hints after it miss nothing. An error ends the sequence:
	// events may have been lost, so the caller calls again.
	Events(ctx context.Context) iter.Seq2[Event, error]
}

// ErrNotConfigured is returned by EnsureSandbox before Configure was called.
var ErrNotConfigured = errors.New("the node's Pod address range is not known yet")

// ErrNotFound is returned by Exec and Logs for a container that does not exist.
var ErrNotFound = errors.New("no such container")

// ErrImageNeverPull is returned where imagePullPolicy is Never and the image is not on the node.
var ErrImageNeverPull = errors.New("image is not present and its pull policy is Never")

// ImageError is a failed pull.
type ImageError struct {
	Image string
	Err   error
}

func (e *ImageError) Error() string { return "pull image " + e.Image + ": " + e.Err.Error() }
func (e *ImageError) Unwrap() error { return e.Err }

// Network is the part of the cluster's addresses that concerns one node.
type Network struct {
	PodCIDR netip.Prefix // the node's own range; its first address is the node's own among its Pods, its gateway
	// ClusterCIDR is the range of all nodes' Pods: what goes there keeps its source address. PodCIDR if zero.
	ClusterCIDR netip.Prefix
	DNS         netip.Addr // answers names for Pods while the gateway does not; zero: none does
}

// Info is what the node tells the cluster of itself.
type Info struct {
	Engine           string // name and version, e.g. docker://20.10.24
	OperatingSystem  string
	Architecture     string // as GOARCH
	KernelVersion    string
	Capacity         corev1.ResourceList // cpu, memory, ephemeral-storage
	LiveRestore      bool
	Images           []corev1.ContainerImage // all
	ReservedOverhead resource.Quantity       // memory the engine itself needs; zero if unknown
	Room             Room
}

// Room is what the host has left. A Share of zero is not measured, or has no bounds.
type Room struct {
	Memory Share // bytes
	Disk   Share // bytes, of the disk that holds images and what containers write
	Inodes Share // of that disk
	PIDs   Share // numbers of processes and threads
}

// Share is a part of something.
type Share struct{ Free, All uint64 }

// Pod is one Pod recovered from labels.
type Pod struct {
	Pod        *corev1.Pod // metadata and spec as given to EnsureSandbox; no status
	Sandbox    Sandbox     // zero if its container is gone
	Containers []Container // every attempt that still exists, oldest first
}

// Sandbox holds a Pod's network namespace.
type Sandbox struct {
	UID     types.UID // of the Pod
	ID      string
	Running bool
	IP      netip.Addr // the Pod's address; the host's for hostNetwork
	Created time.Time
}

// State is a container's state.
type State string

const (
	Created State = "created"
	Running State = "running"
	Paused  State = "paused" // frozen by somebody else
	Exited  State = "exited"
)

// Container is one attempt of one container of a Pod.
type Container struct {
	ID        string
	Name      string
	Attempt   int    // 0 for the first; the restart count of the newest attempt
	SpecHash  string // see ContainerHash
	Image     string // as named in the Pod
	ImageID   string
	State     State
	ExitCode  int
	OOMKilled bool
	Message   string   // the engine's own words for a start that failed
	Env       []string // what it runs with, its image's own included; nil if unknown. May hold secrets: never print it
	Created   time.Time
	Started   time.Time
	Finished  time.Time
}

// ContainerConfig is one attempt to start.
type ContainerConfig struct {
	Pod       *corev1.Pod
	Container *corev1.Container // of Pod, app or init
	Attempt   int
	ImageID   string
	Env       []string // NAME=value, every reference resolved
	Command   []string // Container's own with every $(reference) resolved; run these, not Container's
	Args      []string
}

// LogOptions select from a container's output, as `kubectl logs` does. Zero values select everything.
type LogOptions struct {
	Follow     bool
	Timestamps bool
	Tail       int // the last so many lines; all unless positive
	Since      time.Time
}

// Event says that something about the Pod with this uid changed. Look, do not trust it.
type Event struct {
	UID types.UID // empty: look at everything
}
