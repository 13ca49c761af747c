package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Pods implements runtime.Runtime: one list, and an inspection of whatever is new or changed. The Pods returned are shared and must
// not be modified. Now and then it also repairs the network, which nobody would notice otherwise.
func (r *Runtime) Pods(ctx context.Context) ([]runtime.Pod, error) {
	list, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := r.ownPorts()
	if err != nil {
		return nil, err
	}
	pods := map[types.UID]*runtime.Pod{}
	ids := make(map[string]bool, len(list))
	for i := range list {
		ids[list[i].ID] = true
		if err := r.take(ctx, pods, &list[i], ports); err != nil {
			return nil, err
		}
	}
	r.known.keep(ids)
	if err := r.addLeftovers(pods); err != nil {
		return nil, err
	}
	sorted := make([]runtime.Pod, 0, len(pods))
	for _, p := range pods {
		slices.SortFunc(p.Containers, func(a, b runtime.Container) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Attempt, b.Attempt))
		})
		r.known.setSandbox(p.Pod.UID, p.Sandbox.ID)
		sorted = append(sorted, *p)
	}
	slices.SortFunc(sorted, func(a, b runtime.Pod) int { return cmp.Compare(a.Pod.UID, b.Pod.UID) })
	if r.syncDue(time.Now()) {
		if err := r.syncNetwork(ctx, sorted); err != nil {
			r.config.Log.Warn("Pod network cannot be repaired", "err", err)
		}
	}
	return sorted, nil
}

// addLeftovers adds Pods of which only files are left: an agent was killed as it removed them.
func (r *Runtime) addLeftovers(pods map[types.UID]*runtime.Pod) error {
	dirs, err := os.ReadDir(filepath.Join(r.config.DataDir, podsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list files of Pods: %w", err)
	}
	for _, dir := range dirs {
		if uid := types.UID(dir.Name()); pods[uid] == nil {
			pods[uid] = &runtime.Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}}}
		}
	}
	return nil
}

// ownPorts are the addresses of plugged sandboxes but for those of a range that the node had before.
func (r *Runtime) ownPorts() (map[string]netip.Addr, error) {
	r.mu.Lock()
	network, own, ready := r.network, r.given.PodCIDR, r.ready
	r.mu.Unlock()
	ports, err := network.Ports()
	maps.DeleteFunc(ports, func(_ string, address netip.Addr) bool { return ready && !own.Contains(address) })
	return ports, err
}

// list lists what was made here, by these labels.
func (r *Runtime) list(ctx context.Context, labels ...string) ([]container.Summary, error) {
	ctx, cancel := within(ctx, readTimeout, "list containers")
	defer cancel()
	list, err := r.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: r.ours(labels...)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", because(ctx, err))
	}
	return slices.DeleteFunc(list, r.isCopy), nil
}

// isCopy reports whether a container only has the labels of one that was made here: `docker commit` puts them in an image, and all
// that is run from that inherits them. Its time gives it away: it was made later than its labels say. A slow engine can be late, too,
// but then the name is right, which is one container's at a time.
func (r *Runtime) isCopy(c container.Summary) bool {
	id, ours := r.identify(c.Labels)
	if !ours {
		return false // what is damaged may still be ours
	}
	late := time.Unix(c.Created, 0).Sub(id.created)
	if late <= prompt || slices.Contains(c.Names, "/"+nameByLabels(c.Labels)) {
		return false
	}
	if r.known.copied(c.ID) {
		r.config.Log.Warn("container has labels of Mainstay's that it was not made with: it is left alone", "container", c.ID, "names", c.Names, "pod", c.Labels[labelPod])
	}
	return true
}

// prompt is how long after its labels were written a container may be made to be surely the one they were written for.
const prompt = 10 * time.Second

// take adds one listed container to its Pod.
func (r *Runtime) take(ctx context.Context, pods map[types.UID]*runtime.Pod, c *container.Summary, ports map[string]netip.Addr) error {
	id, ours := r.identify(c.Labels)
	if !ours {
		return nil
	}
	manifest := r.known.pod(c.ID, func() *corev1.Pod { return decodePod(c.Labels) })
	p := pods[id.uid]
	if p == nil {
		p = &runtime.Pod{Pod: manifest}
		pods[id.uid] = p
	}
	if id.container != sandboxName {
		found, err := r.attempt(ctx, id, c, manifest)
		if err == nil && found.ID != "" {
			p.Containers = append(p.Containers, found)
		}
		return err
	}
	s := runtime.Sandbox{UID: id.uid, ID: c.ID, Running: stateOf(string(c.State)) == runtime.Running, Created: id.created}
	s.IP = r.sandboxIP(manifest, ports[c.ID])
	s.Running = s.Running && (manifest.Spec.HostNetwork || s.IP.IsValid()) // no container may start without a network
	if !p.Sandbox.Running || s.Running && s.Created.After(p.Sandbox.Created) {
		p.Pod, p.Sandbox = manifest, s
	}
	return nil
}

func (r *Runtime) sandboxIP(p *corev1.Pod, plugged netip.Addr) netip.Addr {
	if p.Spec.HostNetwork {
		return r.config.NodeIP
	}
	return plugged
}

// attempt describes one listed container of a Pod; without ID if it is gone by now.
func (r *Runtime) attempt(ctx context.Context, id identity, c *container.Summary, p *corev1.Pod) (runtime.Container, error) {
	details, err := r.details(ctx, c, id, p)
	if cerrdefs.IsNotFound(err) {
		return runtime.Container{}, nil
	}
	if err != nil {
		return runtime.Container{}, err
	}
	details.ID, details.Name, details.Attempt, details.SpecHash = c.ID, id.container, id.attempt, id.specHash
	details.ImageID, details.Image, details.Created = c.ImageID, c.Image, id.created
	if spec := containerOf(p, id.container); spec != nil {
		details.Image = spec.Image
	}
	return details, nil
}

// details is what only an inspection tells: state, exit, times, environment.
func (r *Runtime) details(ctx context.Context, c *container.Summary, id identity, p *corev1.Pod) (runtime.Container, error) {
	if d, ok := r.known.details(c.ID, stateOf(string(c.State)), time.Now()); ok {
		return d, nil
	}
	if stateOf(string(c.State)) == runtime.Created && r.known.isStarting(c.ID) {
		return runtime.Container{State: runtime.Created}, nil // one slow start must not hold up the look at all others
	}
	generation := r.known.generation(c.ID)
	inspected, err := r.inspect(ctx, c.ID)
	if err != nil {
		return runtime.Container{}, err
	}
	d := describe(inspected)
	if d.Message != "" && inspected.Config != nil && programExpanded(containerOf(p, id.container), inspected.Config.Entrypoint, inspected.Config.Cmd) {
		d.Message = conceal(d.Message)
	}
	if d.State == runtime.Exited && d.Message == "" {
		d.Message = r.terminationMessage(ctx, c.ID, id, p, d.ExitCode)
	}
	r.known.setDetails(c.ID, generation, stateOf(string(c.State)), d)
	return d, nil
}

func (r *Runtime) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := within(ctx, readTimeout, "inspect container "+id)
	defer cancel()
	inspected, err := r.cli.ContainerInspect(ctx, id)
	if err != nil {
		return inspected, fmt.Errorf("inspect container %s: %w", id, because(ctx, err))
	}
	return inspected, nil
}

// describe reads an inspection. A container that was created and could not be started is one that ended.
func describe(c container.InspectResponse) runtime.Container {
	d := runtime.Container{
		State: stateOf(string(c.State.Status)), ExitCode: c.State.ExitCode, OOMKilled: c.State.OOMKilled,
		Started: parseTime(c.State.StartedAt), Finished: parseTime(c.State.FinishedAt),
	}
	if c.Config != nil {
		d.Env = c.Config.Env
	}
	if !d.Finished.IsZero() && d.Finished.Before(d.Started) && d.State == runtime.Exited {
		d.Finished = d.Started // the engine notes the start of what ended at once a little late
	}
	if d.State == runtime.Created && c.State.Error != "" {
		d.State = runtime.Exited
	}
	if d.State == runtime.Exited {
		d.Message = c.State.Error
	}
	return d
}

// parseTime reads the engine's times; its zero is ours.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func addressOf(s string) netip.Addr {
	address, _ := netip.ParseAddr(s)
	return address
}
