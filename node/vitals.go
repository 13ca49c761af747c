package node

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// nodeEvery is how often the node's own status is looked at.
const nodeEvery = 10 * time.Second

// tellNews has the node's status sent at once.
func (a *agent) tellNews() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// watchNode keeps the node's own status fresh until ctx ends.
func (a *agent) watchNode(ctx context.Context) error {
	regular := time.NewTicker(nodeEvery)
	defer regular.Stop()
	for {
		u := calm
		select {
		case <-ctx.Done():
			return nil
		case <-regular.C:
			a.retryNetwork(ctx)
			a.pull.verify(ctx)
		case <-a.news:
			u = urgent
		}
		a.refreshNode(ctx, u)
	}
}

// refreshNode reports the node's status if it has changed.
func (a *agent) refreshNode(ctx context.Context, u urgency) {
	info, err := a.info(ctx)
	if ctx.Err() != nil {
		return
	}
	a.noteEngine(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.vitals.Info = info
		a.vitals.Strain.note(info.Room, time.Now())
	}
	a.vitals.Ahead, a.vitals.RoutingError = a.pull.ahead(), a.tools.routes.Problem()
	s := nodeStatus(&a.cfg, a.tools.hostIPs, a.vitals, time.Now())
	keepTimes(&s, &a.sent)
	if !apiequality.Semantic.DeepEqual(s, a.sent) {
		a.tools.reporter.setNode(&s, u)
	}
	a.sent = s
}

// tellSilence says that the engine does not answer for a node that cannot register because of that, but may be known from an
// earlier run. It reports whether a server heard it.
func (a *agent) tellSilence(ctx context.Context, why error) bool {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	ready, engine := readyAndEngine(vitals{EngineError: why.Error(), Silent: silentIsNotReady})
	status := &corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready, engine}}
	for i := range status.Conditions {
		status.Conditions[i].LastHeartbeatTime, status.Conditions[i].LastTransitionTime = now, now
	}
	err := a.cfg.Client.Report(ctx, link.Report{Node: a.cfg.Name, NodeStatus: status})
	if err != nil {
		a.cfg.Log.Debug("the engine's silence not reported", "err", err)
	}
	return err == nil
}

// noteEngine remembers whether the engine answers.
func (a *agent) noteEngine(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	was := a.vitals.EngineError
	switch {
	case err == nil && was != "":
		a.cfg.Log.Info("the container engine answers again", "after", now.Sub(a.answered).Round(time.Second))
	case err != nil && was == "":
		a.cfg.Log.Warn("the container engine does not answer; containers are left as they are", "err", err)
	}
	if err == nil {
		a.answered, a.vitals.EngineError, a.vitals.Silent = now, "", 0
	} else {
		a.vitals.EngineError, a.vitals.Silent = err.Error(), now.Sub(a.answered)
	}
	if (err == nil) != (was == "") {
		a.tellNews()
	}
}
