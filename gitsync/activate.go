package gitsync

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// Rules are what a plan asks Kubernetes' own code for.
var Rules = plan.Rules{Default: kube.Default, ValidateUpdate: kube.ValidateUpdate, Message: kube.Message}

// Desired is what a plan needs of what was loaded.
func Desired(set load.Set) []plan.Desired {
	out := make([]plan.Desired, len(set.Objects))
	for i, o := range set.Objects {
		out[i] = plan.Desired{Object: o.Object, Kind: o.Kind, Declared: o.Declared, Path: o.Path, Line: o.Line, Position: o.Position}
	}
	return out
}

// taken is a commit that was read, with what is to be done.
type taken struct {
	commit
	desired  []plan.Desired
	problems []object.Problem
	fetched  time.Time
	changed  map[string]lastChange // by path, as far as history tells
}

// take makes a head the cluster's desired state, or records why it cannot be. On an error nothing was written; step says
// what was being done.
func (f *follower) take(ctx context.Context, at head, since time.Time) (step string, err error) {
	known := f.dealtWith(at)
	t := taken{}
	if err := f.reread(ctx, at, func(c commit) error {
		t = taken{commit: c, fetched: time.Now()}
		return f.read(ctx, &t)
	}); err != nil {
		if known {
			return "", nil // it was read once, and is in force: nothing depends on reading it again
		}
		var unreachable *unreachableError
		if errors.As(err, &unreachable) {
			return "fetch", err
		}
		return "load", err
	}
	if known {
		return "", nil // reading it has filled the loader's cache, so that the next commit costs what it changes
	}
	result, err := f.write(ctx, t)
	if err != nil {
		return "activate", err
	}
	f.tell(t, result, since)
	return "", nil
}

// read loads the manifests of a commit and finds out who changed what was not known before.
func (f *follower) read(ctx context.Context, t *taken) error {
	start, parsed := time.Now(), f.loader.Stats().Parsed
	defer func() {
		f.metrics.load.Observe(time.Since(start).Seconds())
		f.metrics.decoded.Add(float64(f.loader.Stats().Parsed - parsed))
	}()
	tree, err := load.Git(t.objects, t.hash, f.Path)
	if errors.Is(err, load.ErrNoPath) {
		// The tree is whole, it only has no such directory: that rejects the commit and deletes nothing.
		t.problems = []object.Problem{{Path: f.Path, Message: "is no directory of this commit: nothing is changed; check --path"}}
		return nil
	}
	if err != nil {
		return err
	}
	set, problems, err := f.loader.Load(ctx, tree)
	if err != nil || len(problems) > 0 {
		t.problems = problems
		return err
	}
	t.desired = Desired(set)
	t.changed = f.history(ctx, t)
	return nil
}

// history finds the commits that last changed the files of objects that are new or declared otherwise than before.
func (f *follower) history(ctx context.Context, t *taken) map[string]lastChange {
	snap := f.store.View()
	paths := map[string]bool{}
	for i := range t.desired {
		d := &t.desired[i]
		key := state.KeyOf(d.Object)
		key.Name = object.SourceName(d.Kind, key.Name)
		if was, ok := state.Get[*object.Source](snap, key); !ok || !bytes.Equal(was.Spec.Declared, d.Declared) {
			paths[d.Path] = true
		}
	}
	return lastChanges(ctx, t.commit, paths)
}

// outcome is what became of a commit.
type outcome struct {
	plan     plan.Plan
	problems []object.Problem
	version  state.Version
}

// write activates a commit, or rejects it, in one transaction.
func (f *follower) write(ctx context.Context, t taken) (outcome, error) {
	var result outcome
	version, err := f.store.Update(ctx, func(tx *state.Txn) error {
		result = f.decide(tx, t, time.Now())
		return nil
	})
	result.version = version
	return result, err
}

// decide writes what becomes of a commit: all of it is in force, or its Revision says why nothing is.
func (f *follower) decide(tx *state.Txn, t taken, now time.Time) outcome {
	requireCluster(tx)
	result := outcome{problems: t.problems}
	if len(result.problems) == 0 {
		result.plan, result.problems = plan.Compute(t.desired, Rules, tx)
	}
	if len(result.problems) > 0 {
		f.reject(tx, t, result.problems, now)
		return result
	}
	plan.Apply(tx, result.plan, t.provenance(), now)
	f.activate(tx, t, &result.plan, now)
	return result
}

// provenance is what Sources record.
func (t *taken) provenance() plan.Commit {
	return plan.Commit{Hash: t.hash.String(), Author: t.author, LastChange: func(path string) (string, string, bool) {
		last, ok := t.changed[path]
		return last.hash, last.author, ok
	}}
}

// tell logs and measures what became of a commit.
func (f *follower) tell(t taken, result outcome, since time.Time) {
	took := time.Since(since)
	f.metrics.activation.Observe(took.Seconds())
	log := f.log.With("commit", short(t.hash), "branch", t.branch, "took", took)
	if len(result.problems) > 0 {
		f.metrics.revisions.WithLabelValues("rejected").Inc()
		first := result.problems[0]
		log.Warn("commit rejected", "problems", len(result.problems), "path", first.Path, "line", first.Line, "problem", first.Message)
		return
	}
	f.metrics.revisions.WithLabelValues("active").Inc()
	n := result.plan.Counts
	log.Info("commit activated", "created", n.Created, "changed", n.Changed+n.Replaced, "deleted", n.Deleted,
		"untouched", n.Untouched, "version", uint64(result.version))
}
