// Package simulate finds out what would happen if a repository's declarations were activated: it forks the store, applies the
// plan, and lets the very controllers and scheduler of the live path work on the fork until nothing moves, with nodes that
// do at once what they are told. It never touches the store it forks. Start at Run.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/state"
)

// maxRounds bounds how often controllers and scheduler take turns. A rolling update takes a few turns per batch of Pods.
const maxRounds = 2000

// Cluster is what acts on a cluster's state: the same functions as on the live path.
type Cluster struct {
	Controllers []engine.Controller
	Rules       plan.Rules
}

// Commit is what is known of where the declarations come from; all of it may be empty.
type Commit struct{ Hash, Author, Subject string }

// Run says what activating desired would do to the cluster as snap has it, compared with what would happen without. An
// error says that it could not be found out, never that the declarations are wrong: those are Problems of the report.
func Run(ctx context.Context, snap *state.Snapshot, cluster Cluster, desired []plan.Desired, commit Commit) (plan.Report, error) {
	report := plan.Report{
		Commit: commit.Hash, Subject: commit.Subject, Version: uint64(snap.Version),
		Objects: []plan.ObjectChange{}, Pods: plan.PodReport{Workloads: []plan.Workload{}},
	}
	p, problems := plan.Compute(desired, cluster.Rules, snap)
	if len(problems) > 0 {
		report.Problems = problems
		return report, nil
	}
	report.Counts, report.Objects = p.Counts, plan.Describe(p)
	if p.Empty() {
		report.Pods.Kept = podCount(snap)
		return report, nil
	}
	err := onFork(ctx, snap, func(ctx context.Context, f *fork) error {
		f.Cluster = cluster
		return f.compare(ctx, desired, commit, &report.Pods)
	})
	return report, err
}

// Pending says what would still become of the cluster's Pods with nothing new declared: what controllers and scheduler have
// not done yet.
func Pending(ctx context.Context, snap *state.Snapshot, cluster Cluster) (plan.PodReport, error) {
	var report plan.PodReport
	err := onFork(ctx, snap, func(ctx context.Context, f *fork) error {
		f.Cluster = cluster
		err := f.settle(ctx)
		if errors.Is(err, errRestless) {
			report.Unfinished, err = err.Error(), nil
		}
		unfinished := report.Unfinished
		report = comparePods(snap, f.store.View())
		report.Unfinished = unfinished
		return err
	})
	return report, err
}

// fork is a store of its own that starts as the cluster's.
type fork struct {
	Cluster
	store *state.Store
	now   time.Time
}

// onFork runs fn on a fork of snap with a committer, and returns once both have ended.
func onFork(ctx context.Context, snap *state.Snapshot, fn func(context.Context, *fork) error) error {
	f := &fork{store: state.Fork(snap, time.Now), now: time.Now()}
	ctx, cancel := context.WithCancel(ctx)
	var committer sync.WaitGroup
	var broken error
	committer.Go(func() {
		if err := f.store.Commit(ctx, &memory{store: f.store, index: snap.Index}); ctx.Err() == nil {
			broken = err
			cancel()
		}
	})
	err := f.store.Leading(ctx)
	if err == nil {
		err = fn(ctx, f)
	}
	cancel()
	committer.Wait()
	if broken != nil {
		return fmt.Errorf("simulate: %w", broken)
	}
	return err
}

// memory is a log that applies every entry at once and keeps nothing. Only the committer calls it.
type memory struct {
	store *state.Store
	index uint64
}

// Append implements state.Log.
func (m *memory) Append(_ context.Context, entry []byte) ([]error, error) {
	m.index++
	return m.store.Apply(m.index, entry), nil
}

// compare lets the fork come to rest without the plan, then with it, and reports the difference: a rollout that is under way
// anyway is not the plan's doing.
func (f *fork) compare(ctx context.Context, desired []plan.Desired, commit Commit, report *plan.PodReport) error {
	if err := f.settle(ctx); err != nil {
		return fmt.Errorf("simulate the cluster as it is: %w", err)
	}
	before := f.store.View()
	if err := f.activate(ctx, desired, commit); err != nil {
		return fmt.Errorf("simulate the activation: %w", err)
	}
	unfinished := ""
	if err := f.settle(ctx); errors.Is(err, errRestless) {
		unfinished = err.Error()
	} else if err != nil {
		return fmt.Errorf("simulate what follows: %w", err)
	}
	*report = comparePods(before, f.store.View())
	report.Unfinished = unfinished
	return nil
}

func (f *fork) activate(ctx context.Context, desired []plan.Desired, commit Commit) error {
	_, err := f.store.Update(ctx, func(tx *state.Txn) error {
		p, problems := plan.Compute(desired, f.Rules, tx)
		if len(problems) > 0 {
			return fmt.Errorf("%s:%d: %s", problems[0].Path, problems[0].Line, problems[0].Message)
		}
		plan.Apply(tx, p, plan.Commit{Hash: commit.Hash, Author: commit.Author}, f.now)
		inForce(tx)
		return nil
	})
	return err
}

// inForce says that a revision is in force, as an activation would: what clears up waits for that.
func inForce(tx *state.Txn) {
	if cluster := plan.LiveCluster(tx); cluster != nil && cluster.Status.Revision == "" {
		changed := cluster.DeepCopy()
		changed.Status.Revision = "simulated"
		tx.SetStatus(changed)
	}
}

var errRestless = errors.New("controllers and scheduler do not come to rest")

// settle lets controllers, scheduler and nodes take turns until none of them has anything to do, then lets the time pass
// that a Deployment waits before it takes a Pod for available, and so on.
func (f *fork) settle(ctx context.Context) error {
	controllers := append([]engine.Controller{pods(), images()}, f.Controllers...)
	waited := state.Version(0)
	for range maxRounds {
		version := f.store.View().Version
		if err := engine.Settle(ctx, f.store, controllers, f.now); err != nil {
			return err
		}
		if _, err := f.store.Update(ctx, func(tx *state.Txn) error {
			sched.Bind(tx, f.now)
			return nil
		}); err != nil {
			return fmt.Errorf("schedule: %w", err)
		}
		now := f.store.View()
		if now.Version != version {
			continue
		}
		wait := longestWait(now)
		if wait == 0 || waited == now.Version {
			return nil
		}
		waited = now.Version
		f.now = f.now.Add(wait + time.Second)
	}
	return fmt.Errorf("%w in %d turns, %s from now", errRestless, maxRounds, duration.HumanDuration(time.Until(f.now)))
}

// longestWait is the longest minReadySeconds.
func longestWait(r state.Reader) (wait time.Duration) {
	for d := range state.List[*appsv1.Deployment](r, "") {
		wait = max(wait, time.Duration(d.Spec.MinReadySeconds)*time.Second)
	}
	for rs := range state.List[*appsv1.ReplicaSet](r, "") {
		wait = max(wait, time.Duration(rs.Spec.MinReadySeconds)*time.Second)
	}
	return wait
}
