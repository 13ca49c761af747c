package docker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Labels of everything made here. They are the identity; together they are enough for somebody who knows nothing.
const (
	labelCluster   = "mainstay.dev/cluster"
	labelNamespace = "mainstay.dev/namespace"
	labelPod       = "mainstay.dev/pod-name"
	labelUID       = "mainstay.dev/pod-uid"
	labelOwner     = "mainstay.dev/owner" // Kind/name of the controller
	labelContainer = "mainstay.dev/container"
	labelAttempt   = "mainstay.dev/attempt"
	labelSpecHash  = "mainstay.dev/spec-hash"
	labelCreated   = "mainstay.dev/created"  // RFC 3339 with nanoseconds: the engine's lists have whole seconds only
	labelManifest  = "mainstay.dev/manifest" // the Pod's metadata and spec as JSON
)

// sandboxName stands where containers have their name; no container of a Pod can be called so.
const sandboxName = "POD"

// identity is what labels say of one container.
type identity struct {
	uid       types.UID
	container string // sandboxName for the sandbox
	attempt   int
	specHash  string
	created   time.Time
}

// stored is the Pod as it is kept in labels.
func stored(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.Status = corev1.PodStatus{}
	p.ResourceVersion = ""
	p.ManagedFields = nil
	return p
}

// labels returns what every container of the Pod carries.
func (r *Runtime) labels(p *corev1.Pod, container string, attempt int) (map[string]string, error) {
	manifest, err := json.Marshal(stored(p))
	if err != nil {
		return nil, fmt.Errorf("encode pod %s: %w", podName(p), err)
	}
	labels := map[string]string{
		labelCluster: r.config.Cluster, labelNamespace: p.Namespace, labelPod: p.Name, labelUID: string(p.UID), labelContainer: container,
		labelAttempt: strconv.Itoa(attempt), labelCreated: time.Now().UTC().Format(time.RFC3339Nano), labelManifest: string(manifest),
	}
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
		labels[labelOwner] = owner.Kind + "/" + owner.Name
	}
	return labels, nil
}

// identify reads labels; false if they are not those of a container of this cluster.
func (r *Runtime) identify(labels map[string]string) (identity, bool) {
	if labels[labelCluster] != r.config.Cluster || labels[labelUID] == "" || labels[labelContainer] == "" {
		return identity{}, false
	}
	attempt, err := strconv.Atoi(labels[labelAttempt])
	if err != nil {
		return identity{}, false
	}
	created, err := time.Parse(time.RFC3339Nano, labels[labelCreated])
	return identity{
		uid: types.UID(labels[labelUID]), container: labels[labelContainer], attempt: attempt,
		specHash: labels[labelSpecHash], created: created,
	}, err == nil
}

// decodePod reads the manifest; where it is damaged, what the other labels say is all there is.
func decodePod(labels map[string]string) *corev1.Pod {
	p := &corev1.Pod{}
	if err := json.Unmarshal([]byte(labels[labelManifest]), p); err != nil {
		p = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: labels[labelNamespace], Name: labels[labelPod]}}
	}
	p.UID = types.UID(labels[labelUID])
	return p
}

// containerName is for people: Docker's lists are sorted and filtered by it.
func containerName(p *corev1.Pod, container string, attempt int) string {
	return nameOf(container, p.Name, p.Namespace, string(p.UID), strconv.Itoa(attempt))
}

// nameByLabels is the name that a container with these labels was made with.
func nameByLabels(labels map[string]string) string {
	return nameOf(labels[labelContainer], labels[labelPod], labels[labelNamespace], labels[labelUID], labels[labelAttempt])
}

func nameOf(container, pod, namespace, uid, attempt string) string {
	return strings.Join([]string{"ms", container, pod, namespace, uid, attempt}, "_")
}

// ours selects this cluster's containers by labels given as key=value.
func (r *Runtime) ours(more ...string) filters.Args {
	args := filters.NewArgs(filters.Arg("label", labelCluster+"="+r.config.Cluster))
	for _, label := range more {
		args.Add("label", label)
	}
	return args
}

// containerOf returns the spec of a container of the Pod, nil if it has none of that name.
func containerOf(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// hostPorts lists what the Pod's containers want forwarded.
func hostPorts(p *corev1.Pod) []podnet.HostPort {
	if p.Spec.HostNetwork {
		return nil
	}
	var ports []podnet.HostPort
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.HostPort > 0 && port.Protocol != corev1.ProtocolSCTP {
					ports = append(ports, podnet.HostPort{
						HostIP: addressOf(port.HostIP), HostPort: uint16(port.HostPort), Port: uint16(port.ContainerPort), Protocol: port.Protocol,
					})
				}
			}
		}
	}
	return ports
}

// stateOf translates the engine's words.
func stateOf(state string) runtime.State {
	switch state {
	case "created":
		return runtime.Created
	case "running", "restarting":
		return runtime.Running
	case "paused":
		return runtime.Paused
	default: // exited, dead, removing
		return runtime.Exited
	}
}
