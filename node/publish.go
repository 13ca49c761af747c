package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/routing"
)

// publish makes a status of what is known and reports it if it is new.
func (w *worker) publish() {
	o := w.known
	if o.anyUnseen() {
		return // the look that tells its id is on its way
	}
	s := podStatus(w.desired, o)
	w.measure(&s)
	same := apiequality.Semantic.DeepEqual(o.Last, s)
	shown := *w.desired.Pod
	shown.Status = s
	w.mu.Lock()
	w.pod = &shown
	w.mu.Unlock()
	if w.settle() {
		w.routes.SetLocal(w.ref.UID, routing.Local{Ready: readyIn(&s) == corev1.ConditionTrue, Address: s.PodIP})
	}
	if same || w.desired.Gone || !w.heard {
		return
	}
	w.recordBackoff(&o.Last, &s)
	u := urgencyOf(&o.Last, &s)
	o.Last = s
	w.reporter.set(link.PodStatus{PodRef: w.ref, Status: s}, u)
}

// recordBackoff makes Events of containers that have begun to wait.
func (w *worker) recordBackoff(before, after *corev1.PodStatus) {
	for c := range containers(w.desired.Pod) {
		s, old := statusOf(after, c.Name), statusOf(before, c.Name)
		if reasonOf(s) == "" || old != nil && reasonOf(old) == reasonOf(s) {
			continue
		}
		switch reasonOf(s) {
		case reasonCrashLoop, reasonRunError:
			w.recorder.warning(w.desired.Pod, c.Name, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.ref.Name, w.ref.Namespace, w.ref.UID))
		case reasonImagePullBackOff:
			w.recorder.normal(w.desired.Pod, c.Name, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
		}
	}
}

// settle closes settled as soon as every readiness probe of what runs has answered, and says whether they have.
func (w *worker) settle() bool {
	select {
	case <-w.settled:
		return true
	default:
	}
	for c := range containers(w.desired.Pod) {
		if last := w.known.latest(c.Name); last.alive() && !w.known.healthOf(last).Probed {
			return false
		}
	}
	close(w.settled)
	return true
}

// measure observes how long the Pod took from its arrival until everything ran.
func (w *worker) measure(s *corev1.PodStatus) {
	if w.took || w.adopted {
		return
	}
	for i := range s.ContainerStatuses {
		if s.ContainerStatuses[i].State.Running == nil {
			return
		}
	}
	w.took = true
	w.metrics.starts.Observe(time.Since(w.known.Start).Seconds())
}
