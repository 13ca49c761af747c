package gitsync

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// RevisionNameLen is how many characters of a commit name its Revision.
	RevisionNameLen = 12
	// maxProblems are kept of a rejected commit.
	maxProblems = 50
)

// RevisionName is the name of the Revision of a commit, given by its full hash.
func RevisionName(commit string) string { return commit[:min(len(commit), RevisionNameLen)] }

// dealtWith says whether the head was activated before, by this leader or another. One that was rejected is looked at again:
// another version of Mainstay, or another state of the cluster, may accept it.
func (f *follower) dealtWith(at head) bool {
	snap := f.store.View()
	cluster := plan.LiveCluster(snap)
	if cluster == nil || cluster.Status.Head != at.hash.String() || cluster.Status.Repo != f.repo || cluster.Status.Path != f.Path {
		return false
	}
	rev, ok := state.Get[*object.Revision](snap, state.Key{Name: RevisionName(at.hash.String())})
	return ok && rev.Status.Phase != object.RevisionRejected && cluster.Status.Revision == rev.Name
}

// activate records that a commit is in force. Its plan has been applied.
func (f *follower) activate(tx *state.Txn, t taken, p *plan.Plan, now time.Time) {
	cluster := f.cluster(tx)
	status := f.status(t.head)
	status.Revision = RevisionName(t.hash.String())
	old, known := state.Get[*object.Revision](tx, state.Key{Name: status.Revision})
	if p.Empty() && known && cluster.Status.Revision == old.Name && old.Status.Phase != object.RevisionRejected {
		setStatus(tx, cluster, status) // the branch came back to what is in force
		return
	}
	supersede(tx, status.Revision, now)
	n := p.Counts
	putRevision(tx, t, object.RevisionStatus{
		Phase: object.RevisionActive, FetchedAt: at(t.fetched), ActivatedAt: at(now),
		Created: int32(n.Created), Changed: int32(n.Changed + n.Replaced), Deleted: int32(n.Deleted), Untouched: int32(n.Untouched),
	})
	setStatus(tx, cluster, status)
}

// reject records why a commit is not in force, and changes nothing else. The same verdict again writes nothing.
func (f *follower) reject(tx *state.Txn, t taken, problems []object.Problem, now time.Time) {
	cluster := f.cluster(tx)
	status := f.status(t.head)
	status.Revision = cluster.Status.Revision
	setStatus(tx, cluster, status)
	verdict := object.RevisionStatus{
		Phase: object.RevisionRejected, FetchedAt: at(t.fetched), EndedAt: at(now),
		Problems: problems[:min(len(problems), maxProblems)], ProblemsAll: int32(len(problems)),
	}
	old, known := state.Get[*object.Revision](tx, state.Key{Name: RevisionName(t.hash.String())})
	if known && old.Status.Phase == object.RevisionRejected && slices.Equal(old.Status.Problems, verdict.Problems) {
		return
	}
	putRevision(tx, t, verdict)
}

func at(t time.Time) *metav1.Time { return &metav1.Time{Time: t.Truncate(time.Second)} }

// putRevision makes a commit the newest Revision. One that was there before counts as new.
func putRevision(tx *state.Txn, t taken, status object.RevisionStatus) {
	rev := &object.Revision{Spec: object.RevisionSpec{
		Commit: t.hash.String(), Author: t.author, Subject: t.subject, CommitTime: metav1.NewTime(t.when), Branch: t.branch,
		Sequence: sequence(tx) + 1,
	}, Status: status}
	rev.Name = RevisionName(t.hash.String())
	old, known := state.Get[*object.Revision](tx, state.KeyOf(rev))
	if !known {
		tx.Create(rev)
		return
	}
	rev.ObjectMeta = *old.ObjectMeta.DeepCopy()
	tx.Update(rev)
	tx.SetStatus(rev)
}

// sequence is that of the newest Revision.
func sequence(r state.Reader) (highest int64) {
	for rev := range state.List[*object.Revision](r, "") {
		highest = max(highest, rev.Spec.Sequence)
	}
	return highest
}

// supersede ends the Revisions that had not come to an end when another takes their place.
func supersede(tx *state.Txn, by string, now time.Time) {
	for _, rev := range slices.Collect(state.List[*object.Revision](tx, "")) {
		if rev.Name == by || rev.Status.Phase != object.RevisionActive {
			continue
		}
		ended := rev.DeepCopy()
		ended.Status.Phase, ended.Status.EndedAt, ended.Status.Message = object.RevisionSuperseded, at(now), ""
		tx.Require(rev) // it may have ended otherwise meanwhile
		tx.SetStatus(ended)
	}
}

// status is what is known of the repository when it can be read.
func (f *follower) status(at head) object.ClusterStatus {
	return object.ClusterStatus{Repo: f.repo, Branch: at.branch, Path: f.Path, Head: at.hash.String()}
}

// cluster is the living Cluster, made if need be.
func (f *follower) cluster(tx *state.Txn) *object.Cluster {
	if cluster := plan.LiveCluster(tx); cluster != nil {
		return cluster
	}
	cluster := &object.Cluster{}
	cluster.Name = ClusterID(f.Config, nil)
	kube.Default(cluster)
	tx.Create(cluster)
	return cluster
}

// requireCluster has tx begin anew if the Cluster changes meanwhile: its status has other writers, and each writes all of it. It
// comes before anything else is written of the Cluster.
func requireCluster(tx *state.Txn) {
	if cluster := plan.LiveCluster(tx); cluster != nil {
		tx.Require(cluster)
	}
}

// setStatus writes what repository says of the repository, if it is a change. All else in the status is others' to write.
func setStatus(tx *state.Txn, cluster *object.Cluster, repository object.ClusterStatus) {
	changed := cluster.DeepCopy()
	s := &changed.Status
	s.Repo, s.Branch, s.Path = repository.Repo, repository.Branch, repository.Path
	s.Head, s.Revision = repository.Head, repository.Revision
	s.Error, s.ErrorAt = repository.Error, repository.ErrorAt
	tx.SetStatus(changed)
}

// recordHead clears an error once the repository can be read again. Without one it writes nothing.
func (f *follower) recordHead(ctx context.Context, at head) error {
	if cluster := plan.LiveCluster(f.store.View()); cluster == nil || cluster.Status.Error == "" {
		return nil
	}
	_, err := f.store.Update(ctx, func(tx *state.Txn) error {
		requireCluster(tx)
		cluster := f.cluster(tx)
		status := cluster.Status
		status.Error, status.ErrorAt, status.Head = "", nil, at.hash.String()
		setStatus(tx, cluster, status)
		return nil
	})
	return err
}

// recordError records why the repository cannot be read. The same error again writes nothing.
func (f *follower) recordError(ctx context.Context, text string) error {
	_, err := f.store.Update(ctx, func(tx *state.Txn) error {
		requireCluster(tx)
		cluster := f.cluster(tx)
		status := *cluster.Status.DeepCopy()
		if status.Repo == "" {
			status.Repo, status.Branch, status.Path = f.repo, f.Branch, f.Path
		}
		if status.Error == "" {
			status.ErrorAt = at(time.Now())
		}
		status.Error = clean(text)
		setStatus(tx, cluster, status)
		return nil
	})
	return err
}
