package node

import (
	"context"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
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
	}
	a.vitals.Ahead = a.pull.ahead()
	s := nodeStatus(&a.cfg, a.tools.hostIPs, a.vitals, time.Now())
	keepTimes(&s, &a.sent)
	if !apiequality.Semantic.DeepEqual(s, a.sent) {
		a.tools.reporter.setNode(&s, u)
	}
	a.sent = s
}

// noteEngine remembers whether the engine answers.
func (a *agent) noteEngine(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil && a.silent.IsZero():
	case err == nil:
		a.cfg.Log.Info("the container engine answers again", "after", now.Sub(a.silent).Round(time.Second))
		a.silent, a.vitals.EngineError, a.vitals.Silent = time.Time{}, "", 0
	case a.silent.IsZero():
		a.cfg.Log.Warn("the container engine does not answer", "err", err)
		a.silent, a.vitals.EngineError = now, err.Error()
	default:
		a.vitals.EngineError, a.vitals.Silent = err.Error(), now.Sub(a.silent)
	}
}
