package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// patience is how long a rebuilt server waits for the nodes that Git declares: a machine's reboot. What comes later is
	// taken in too, but may find its Pods replaced.
	patience = 2 * time.Minute
	// quietTime is how long no further node may come until a rebuilt server believes that it has seen all: two of an agent's
	// longest pauses between tries.
	quietTime = 20 * time.Second
)

// gather waits until the nodes of a cluster that has lost its memory have said what they run: those that Git declares, or that
// a snapshot names, and whoever comes one soon after the other. Until then nothing is started or stopped. What the first ones
// run says nothing about the others. A cluster that is new has nobody to wait for.
func (s *server) gather(ctx context.Context) error {
	if !object.IsRecovering(plan.LiveCluster(s.store.View())) {
		return nil
	}
	if err := s.gatherNamed(ctx); err != nil || s.alone {
		return err
	}
	if err := s.recovering(ctx, fmt.Sprintf("waiting until no further node has come for %s: they report what they run", s.quiet)); err != nil {
		return err
	}
	for before := -1; before != joined(s.store.View()); {
		before = joined(s.store.View())
		if err := awaitFor(ctx, s.store, s.quiet, func(r state.Reader) bool { return joined(r) > before }); err != nil {
			return err
		}
	}
	return nil
}

// gatherNamed waits for the nodes whose names are known, but not for ever.
func (s *server) gatherNamed(ctx context.Context) error {
	absent := notJoined(s.store.View())
	if len(absent) == 0 {
		return nil
	}
	if err := s.recovering(ctx, "waiting for nodes that Git declares to report what they run: "+strings.Join(absent, ", ")); err != nil {
		return err
	}
	if err := awaitFor(ctx, s.store, patience, func(r state.Reader) bool { return len(notJoined(r)) == 0 }); err != nil {
		return err
	}
	if absent := notJoined(s.store.View()); len(absent) > 0 {
		s.log.Warn("going on without nodes that Git declares; what they run is taken in when they come", "nodes", absent, "waited", patience)
	}
	return nil
}

// notJoined lists the nodes that are declared and have not come yet.
func notJoined(r state.Reader) (names []string) {
	for node := range state.List[*corev1.Node](r, "") {
		if !object.Joined(node) {
			names = append(names, node.Name)
		}
	}
	return names
}

func joined(r state.Reader) int { return state.Len[*corev1.Node](r) - len(notJoined(r)) }

// awaitingNodes is the condition of a Cluster that has nodes which it does not know yet.
func awaitingNodes(message string) metav1.Condition {
	return metav1.Condition{Type: object.Recovering, Status: metav1.ConditionTrue, Reason: "NodesAwaited", Message: message}
}

// recovering shows in the Cluster what a rebuilt server waits for. As long as it does, no node is told of a network that is
// known in parts only, and a server that starts anew goes on waiting.
func (s *server) recovering(ctx context.Context, message string) error {
	s.log.Info(message)
	return s.recordRecovery(ctx, awaitingNodes(message))
}

// recovered ends what recovering began, if it did.
func (s *server) recovered(ctx context.Context) error {
	if !object.IsRecovering(plan.LiveCluster(s.store.View())) {
		return nil
	}
	return s.recordRecovery(ctx, metav1.Condition{Type: object.Recovering, Status: metav1.ConditionFalse, Reason: "NodesReported"})
}

func (s *server) recordRecovery(ctx context.Context, condition metav1.Condition) error {
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		cluster := plan.LiveCluster(tx)
		changed := cluster.DeepCopy()
		apimeta.SetStatusCondition(&changed.Status.Conditions, condition)
		tx.Require(cluster) // Its status has other writers.
		tx.SetStatus(changed)
		return nil
	})
	if err != nil {
		return fmt.Errorf("record what is waited for: %w", err)
	}
	return nil
}

var errLongEnough = errors.New("waited long enough")

// awaitFor is await that also returns after a while.
func awaitFor(ctx context.Context, store *state.Store, d time.Duration, wanted func(state.Reader) bool) error {
	limited, cancel := context.WithTimeoutCause(ctx, d, errLongEnough)
	defer cancel()
	if err := await(limited, store, wanted); err != nil && ctx.Err() != nil {
		return err
	} else if err != nil && limited.Err() == nil {
		return err
	}
	return nil
}
