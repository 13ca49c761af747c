package node

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/qos"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Reasons as Kubernetes writes them.
const (
	reasonErrImagePull     = "ErrImagePull"
	reasonImagePullBackOff = "ImagePullBackOff"
	reasonImageNeverPull   = "ErrImageNeverPull"
	reasonConfigError      = "CreateContainerConfigError"
	reasonCreateError      = "CreateContainerError"
	reasonRunError         = "RunContainerError"
	reasonCrashLoop        = "CrashLoopBackOff"
	reasonCreating         = "ContainerCreating"
	reasonInitializing     = "PodInitializing"
	reasonCompleted        = "Completed"
	reasonError            = "Error"
	reasonOOMKilled        = "OOMKilled"
	reasonStartError       = "StartError"
	reasonStatusUnknown    = "ContainerStatusUnknown"
	reasonDeadline         = "DeadlineExceeded"
	reasonPodCompleted     = "PodCompleted"
	reasonPodFailed        = "PodFailed"
	reasonNotReady         = "ContainersNotReady"
	reasonNotInitialized   = "ContainersNotInitialized"
	messageDeadline        = "Pod was active on the node longer than the specified deadline"
	messageLost            = "The container could not be located when the pod was terminated"
	messageInitUnknown     = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
	containerIDPrefix      = "docker://"
)

// podStatus says what is known of a Pod as a kubelet says it. It is pure, and keeps o.Last's transition times.
func podStatus(d desired, o *observed) corev1.PodStatus {
	s := corev1.PodStatus{
		ObservedGeneration: d.Pod.Generation,
		QOSClass:           qos.ComputePodQOS(d.Pod),
		StartTime:          o.Last.StartTime,
	}
	if s.StartTime == nil && !o.Start.IsZero() {
		s.StartTime = ptr.To(metav1.NewTime(o.Start.Truncate(time.Second)))
	}
	for i := range d.Pod.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, initStatus(d, o, &d.Pod.Spec.InitContainers[i]))
	}
	for i := range d.Pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(d, o, &d.Pod.Spec.Containers[i]))
	}
	setAddresses(&s, d, o)
	setPhase(&s, d, o)
	setConditions(&s, d, o)
	return s
}

func setAddresses(s *corev1.PodStatus, d desired, o *observed) {
	for _, ip := range o.HostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(o.HostIPs) > 0 {
		s.HostIP = o.HostIPs[0]
	}
	switch {
	case o.Sandbox.Running && o.Sandbox.IP.IsValid():
		s.PodIP = o.Sandbox.IP.String()
	case d.Pod.Spec.HostNetwork && o.Sandbox.Running:
		s.PodIP = s.HostIP
	}
	if s.PodIP != "" {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
}

// containerStatus is the status of an app container.
func containerStatus(d desired, o *observed, c *corev1.Container) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: ptr.To(false)}
	last := o.latest(c.Name)
	if last == nil {
		s.State.Waiting = waiting(d, o, c)
		if known := statusOf(&o.Last, c.Name); known != nil && known.ContainerID != "" {
			s.RestartCount, s.LastTerminationState = known.RestartCount, lastOf(known)
		}
		return s
	}
	fill(&s, last)
	if before := o.previous(c.Name); before != nil && before.State == runtime.Exited {
		s.LastTerminationState.Terminated = terminated(before)
	}
	switch {
	case last.alive():
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(last.Started.Truncate(time.Second))}
		h := o.healthOf(last)
		s.Started, s.Ready = &h.Started, h.Started && h.Ready && o.here(last) && last.State == runtime.Running
	case last.State == runtime.Created:
		s.State.Waiting = waiting(d, o, c)
	default:
		s.State.Terminated = terminated(last)
		if w := waiting(d, o, c); w.Reason != reasonCreating && w.Reason != reasonInitializing && willRestart(d, o, c, last) {
			s.LastTerminationState, s.State = s.State, corev1.ContainerState{Waiting: w}
		}
	}
	return s
}

// fill sets what identifies an attempt.
func fill(s *corev1.ContainerStatus, a *attempt) {
	s.RestartCount, s.ImageID = int32(a.Attempt), a.ImageID
	if a.Image != "" {
		s.Image = a.Image
	}
	if a.ID != "" {
		s.ContainerID = containerIDPrefix + a.ID
	}
}

// initStatus differs from containerStatus in what readiness means.
func initStatus(d desired, o *observed, c *corev1.Container) corev1.ContainerStatus {
	s := containerStatus(d, o, c)
	if sidecar(c) {
		return s
	}
	last := o.latest(c.Name)
	switch {
	case last == nil && appsBegun(d, o):
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reasonCompleted, Message: messageInitUnknown}}
		s.Ready = true
	case last == nil:
	case last.State == runtime.Exited && last.ExitCode == 0:
		s.State = corev1.ContainerState{Terminated: terminated(last)}
		s.Ready = true
	default:
		s.Ready = false
	}
	return s
}

// willRestart reports whether an ended attempt is going to have a successor.
func willRestart(d desired, o *observed, c *corev1.Container, last *attempt) bool {
	if d.stop() || finished(d, o) {
		return false
	}
	for i := range d.Pod.Spec.InitContainers {
		if d.Pod.Spec.InitContainers[i].Name == c.Name {
			return sidecar(c) || last.ExitCode != 0
		}
	}
	return restarts(d.Pod, last)
}

// waiting says why a container does not run.
func waiting(d desired, o *observed, c *corev1.Container) *corev1.ContainerStateWaiting {
	t := o.track(c.Name)
	last := o.latest(c.Name)
	switch {
	case t.Hold.holds(o.Now):
		return held(t.Hold, c.Image, o.Now)
	case last != nil && last.State == runtime.Exited && startsAt(o, c).After(o.Now):
		if last.failedStart() {
			return &corev1.ContainerStateWaiting{Reason: reasonRunError, Message: last.Message}
		}
		return &corev1.ContainerStateWaiting{Reason: reasonCrashLoop, Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			t.Backoff.wait(last.ran()), c.Name, d.Pod.Name, d.Pod.Namespace, d.Pod.UID)}
	case t.Hold.Reason != "":
		return held(t.Hold, c.Image, o.Now)
	case len(d.Pod.Spec.InitContainers) > 0:
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing, Message: sandboxMessage(o)}
	default:
		return &corev1.ContainerStateWaiting{Reason: reasonCreating, Message: sandboxMessage(o)}
	}
}

// sandboxMessage is why the Pod has no sandbox; empty if it has one, or none was tried yet.
func sandboxMessage(o *observed) string {
	if o.Sandbox.Running {
		return ""
	}
	return o.SandboxHold.Message
}

// held shows a problem; a failed pull changes its name while it waits, as in Kubernetes.
func held(p problem, image string, now time.Time) *corev1.ContainerStateWaiting {
	if p.Reason == reasonErrImagePull && !now.Before(p.Since.Add(pullShownAs)) {
		return &corev1.ContainerStateWaiting{
			Reason:  reasonImagePullBackOff,
			Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", image, reasonErrImagePull, p.Message),
		}
	}
	return &corev1.ContainerStateWaiting{Reason: p.Reason, Message: p.Message}
}

// terminated describes how an attempt ended.
func terminated(a *attempt) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(a.ExitCode), Reason: reasonError, Message: a.Message,
		StartedAt: seconds(a.Started), FinishedAt: seconds(a.ended()),
	}
	if a.ID != "" {
		t.ContainerID = containerIDPrefix + a.ID
	}
	switch {
	case a.Unknown:
		t.Reason, t.Message = reasonStatusUnknown, messageLost
	case a.OOMKilled:
		t.Reason = reasonOOMKilled
	case a.failedStart():
		t.Reason = reasonStartError
	case a.ExitCode == 0:
		t.Reason = reasonCompleted
	}
	return t
}

// seconds is a time as the API carries it; zero stays zero.
func seconds(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// statusOf finds a container's status by name, nil if there is none.
func statusOf(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range all {
			if all[i].Name == name {
				return &all[i]
			}
		}
	}
	return nil
}

// lastOf is the last termination a status knows of, its present state included.
func lastOf(s *corev1.ContainerStatus) corev1.ContainerState {
	switch {
	case s.State.Terminated != nil:
		return s.State
	case s.State.Running != nil:
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: reasonStatusUnknown, Message: messageLost, ExitCode: exitLost, StartedAt: s.State.Running.StartedAt,
		}}
	default:
		return s.LastTerminationState
	}
}

// names lists containers as Kubernetes' messages do.
func names(list []string) string { return "[" + strings.Join(list, " ") + "]" }
