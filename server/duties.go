package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/controllers/declared"
	"github.com/mainstay-cluster/mainstay/controllers/deployment"
	"github.com/mainstay-cluster/mainstay/controllers/disruption"
	"github.com/mainstay-cluster/mainstay/controllers/endpoints"
	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/garbage"
	"github.com/mainstay-cluster/mainstay/controllers/nodelife"
	"github.com/mainstay-cluster/mainstay/controllers/ownservice"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/controllers/revision"
	"github.com/mainstay-cluster/mainstay/controllers/service"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/simulate"
	"github.com/mainstay-cluster/mainstay/state"
)

// retryRepository is how often a repository that cannot be read is tried again before anything is known of the cluster.
const retryRepository = 5 * time.Second

// controllers is what keeps the cluster as declared: the same list for the live path and for plans, which hear of no node.
func controllers(beats *nodelife.Heartbeats) []engine.Controller {
	return slices.Concat(
		[]engine.Controller{declared.Controller(kube.Default), declared.Replacer(), deployment.Controller(), deployment.Prepull(), replicaset.Controller(), service.Controller(), endpoints.Controller(), disruption.Controller(), revision.Controller()},
		ownservice.Controllers(),
		nodelife.Controllers(beats),
		garbage.Controllers(),
	)
}

// duties is everything the leader does and followers don't. It returns when ctx ends or any part fails.
func (s *server) duties(ctx context.Context) error {
	s.complete.Store(true) // Lead calls only once the state is
	s.beats.Store(nodelife.NewHeartbeats(time.Now()))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.store.Commit(ctx, s.raft) })
	g.Go(func() error {
		if err := s.store.Leading(ctx); err != nil {
			return err
		}
		cluster, err := s.identify(ctx)
		if err != nil {
			return err
		}
		if err := s.recordAuthority(ctx); err != nil {
			return err
		}
		if err := s.announce(ctx); err != nil {
			return err
		}
		if err := s.tally(ctx); err != nil {
			return err
		}
		g.Go(func() error { return s.raiseLevel(ctx) })
		if cluster.Status.Revision == "" || object.IsRecovering(cluster) {
			return s.takeIn(ctx, g)
		}
		s.follow(ctx, g)
		s.decide(ctx, g)
		return nil
	})
	return g.Wait()
}

// follow makes what the repository says the desired state.
func (s *server) follow(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error {
		defer s.copy.takeOver()()
		return gitsync.Follow(ctx, s.cfg.Git, s.store, s.metrics.git, s.log)
	})
}

// decide brings the cluster to the desired state.
func (s *server) decide(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return sched.Run(ctx, s.store, s.log, s.metrics.sched) })
	g.Go(func() error { return nodelife.Tell(ctx, s.store, s.log, s.metrics.nodes) })
	for _, c := range controllers(s.beats.Load()) {
		g.Go(func() error { return c.Run(ctx, s.store, s.log, s.metrics.engine) })
	}
}

// takeIn is how a cluster begins, new or rebuilt from its repository: what already runs is taken in first, then the whole
// tree becomes the desired state, and only then does anything decide what to start and stop.
func (s *server) takeIn(ctx context.Context, g *errgroup.Group) error {
	s.log.Info("waiting for a node to report what it runs; on another machine, one joins by mainstay agent with a token")
	if err := await(ctx, s.store, func(r state.Reader) bool { return state.Len[*corev1.Node](r) > 0 }); err != nil {
		return err
	}
	if running(s.store.View()) > 0 {
		if err := s.recovering(ctx, "taking in what nodes run, until the repository is read"); err != nil {
			return err
		}
	}
	s.follow(ctx, g)
	activated := func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		return cluster != nil && cluster.Status.Revision != ""
	}
	if err := await(ctx, s.store, activated); err != nil {
		return err
	}
	if err := s.gather(ctx); err != nil {
		return err
	}
	if err := s.recovered(ctx); err != nil {
		return err
	}
	if adopted := running(s.store.View()); adopted > 0 {
		report, err := simulate.Pending(ctx, s.store.View(), s.acting())
		if err != nil {
			return err
		}
		s.log.Info(fmt.Sprintf("rebuilt from the repository: %d Pods taken in, %d to start, %d to stop",
			adopted, report.Created+report.Replaced, report.Deleted+report.Replaced))
	}
	s.decide(ctx, g)
	return nil
}

// running counts the Pods that nodes have.
func running(r state.Reader) (n int) {
	for pod := range state.List[*corev1.Pod](r, "") {
		if pod.Spec.NodeName != "" {
			n++
		}
	}
	return n
}

// identify returns the Cluster of the store; where there is none yet, it makes one with the id that the repository gives.
func (s *server) identify(ctx context.Context) (*object.Cluster, error) {
	if live := plan.LiveCluster(s.store.View()); live != nil {
		return live, nil
	}
	declared, err := s.readCluster(ctx)
	if err != nil {
		return nil, err
	}
	cluster := &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: gitsync.ClusterID(s.cfg.Git, declared)}}
	cluster.Status.Store, cluster.Status.Level = string(uuid.NewUUID()), s.level
	if s.hadNodes {
		condition := awaitingNodes("the store is new and the cluster's authority is not: waiting for nodes that joined before")
		condition.LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
		cluster.Status.Conditions = []metav1.Condition{condition}
	}
	if declared != nil {
		cluster.Labels, cluster.Annotations, cluster.Spec = declared.Labels, declared.Annotations, declared.Spec
	}
	_, err = s.store.Update(ctx, func(tx *state.Txn) error {
		tx.Create(cluster)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record the cluster: %w", err)
	}
	s.log.Info("new cluster", "cluster", cluster.Name)
	return cluster, nil
}

// readCluster asks the repository for the cluster's settings until it answers: without its id nothing can be recognised. It says
// why it does not answer once, and again when that changes.
func (s *server) readCluster(ctx context.Context) (*object.Cluster, error) {
	said := ""
	for {
		declared, err := gitsync.ReadCluster(ctx, s.cfg.Git)
		if err == nil {
			return declared, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if why := err.Error(); why != said {
			said = why
			s.log.Error("the repository cannot be read, and a new cluster needs it: trying again until it can", "err", err, "every", retryRepository)
		}
		select {
		case <-time.After(retryRepository):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// await returns once the state is as wanted.
func await(ctx context.Context, store *state.Store, wanted func(state.Reader) bool) error {
	for {
		snap := store.View()
		if wanted(snap) {
			return nil
		}
		if _, err := store.Wait(ctx, snap.Version+1); err != nil {
			return err
		}
	}
}
