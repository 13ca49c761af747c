package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// recoveriesFile is where a server's data directory tells of recoveries, one JSON object a line, whatever becomes of the store.
const recoveriesFile = "recoveries.log"

// Survey is what a stopped server knows of the servers.
type Survey struct {
	Server  string   `json:"server"` // the one whose data it is
	Members []Member `json:"members"`
	Index   uint64   `json:"index"` // newest entry in its log: of several that are left, the one with the highest has most
}

// voters counts those that have a vote, and those of them that answer or, as this one, could.
func (s Survey) voters() (all, there int) {
	for _, m := range s.Members {
		if m.Role != Voter {
			continue
		}
		all++
		if m.Reached {
			there++
		}
	}
	return all, there
}

// mayRecover refuses where the servers that are there can go on by themselves.
func (s Survey) mayRecover() error {
	all, there := s.voters()
	switch needed := all/2 + 1; {
	case len(s.Members) == 1:
		return errors.New("there is nothing to recover: this is the only server. Start it as usual")
	case there >= needed:
		return fmt.Errorf("refused: of %d voters %d are there, this one included, and %d are enough. Start this server as usual; remove those that are lost by `mainstay server remove`", all, there, needed)
	}
	return nil
}

// Lost lists the servers that a recovery gives up.
func (s Survey) Lost() (names []string) {
	for _, m := range s.Members {
		if m.Name != s.Server {
			names = append(names, m.Name)
		}
	}
	return names
}

// SurveyServers finds out, from the data directory of a stopped server, who the servers are and which of them answer.
func SurveyServers(ctx context.Context, dataDir string, log *slog.Logger) (Survey, error) {
	release, err := lockDir(dataDir)
	if err != nil {
		return Survey{}, err
	}
	defer release()
	survey, _, err := look(ctx, dataDir, log)
	return survey, err
}

// Recover makes the data directory of a stopped server that of a cluster which has it alone, if no majority is left without that.
// It is written down in the directory, in the Cluster's conditions and as an Event.
func Recover(ctx context.Context, dataDir string, log *slog.Logger) (Survey, error) {
	release, err := lockDir(dataDir)
	if err != nil {
		return Survey{}, err
	}
	defer release()
	survey, members, err := look(ctx, dataDir, log)
	if err == nil {
		err = survey.mayRecover()
	}
	if err == nil {
		err = noteRecovery(dataDir, survey)
	}
	if err != nil {
		return survey, err
	}
	cfg := raftlog.Config{Dir: filepath.Join(dataDir, "raft"), ID: survey.Server, Log: log}
	cfg.Store = state.New(tables.Schema(), time.Now)
	if err := raftlog.Forsake(cfg, members); err != nil {
		return survey, err
	}
	return survey, recordRecovery(ctx, cfg, survey)
}

// look runs the server's log for a moment, without a port of its own, and asks the others how far they are.
func look(ctx context.Context, dataDir string, log *slog.Logger) (Survey, []raftlog.Server, error) {
	self, err := readMembership(dataDir)
	if err != nil {
		return Survey{}, nil, fmt.Errorf("%s is not the data directory of a server: %w", dataDir, err)
	}
	authority, err := pki.Open(filepath.Join(dataDir, "pki"), time.Now)
	if err != nil {
		return Survey{}, nil, err
	}
	identity := authority.Renewing(pki.Identity{Name: self.Name, Group: pki.GroupServers})
	s := &server{id: self.Name, store: state.New(tables.Schema(), time.Now)}
	s.raft, err = raftlog.Open(raftlog.Config{
		Dir: filepath.Join(dataDir, "raft"), ID: self.Name, Store: s.store, Log: log, Streams: raftlog.NewStreams("", dialServer(identity, s.dial)),
	})
	if err != nil {
		return Survey{}, nil, err
	}
	defer s.raft.Close()
	list, err := s.members(ctx)
	if err != nil {
		return Survey{}, nil, err
	}
	members, err := s.raft.Members(ctx)
	return Survey{Server: self.Name, Members: list, Index: s.raft.Index()}, members, err
}

// noteRecovery tells of a recovery that is about to happen.
func noteRecovery(dataDir string, s Survey) error {
	note, err := json.Marshal(struct {
		Time time.Time `json:"time"`
		UID  int       `json:"uid"`
		Survey
	}{time.Now().UTC(), os.Getuid(), s})
	if err != nil {
		return fmt.Errorf("note the recovery: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dataDir, recoveriesFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note the recovery: %w", err)
	}
	_, err = f.Write(append(note, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("note the recovery: %w", err)
	}
	return nil
}

// recordRecovery tells the cluster, as the first thing that its only server writes.
func recordRecovery(ctx context.Context, cfg raftlog.Config, s Survey) error {
	cfg.Store = state.New(tables.Schema(), time.Now)
	raft, err := raftlog.Open(cfg)
	if err != nil {
		return err
	}
	now := time.Now()
	err = leadOnce(ctx, raft, func(term context.Context) error {
		return writeOnce(term, raft, cfg.Store, func(tx *state.Txn) error { return goOnAlone(tx, s, now) })
	})
	if err = errors.Join(err, raft.Close()); err != nil {
		return fmt.Errorf("record the recovery: %w", err)
	}
	return nil
}

// goOnAlone strikes off the other servers, and says so where it is looked for.
func goOnAlone(tx *state.Txn, s Survey, now time.Time) error {
	for _, there := range slices.Collect(state.List[*object.Server](tx, "")) {
		if there.Name != s.Server {
			tx.Delete(there)
			continue
		}
		voting := there.DeepCopy()
		voting.Spec.Pending, voting.Spec.NonVoter = false, false
		tx.Update(voting)
	}
	cluster := plan.LiveCluster(tx)
	if cluster == nil {
		return nil // one that never came so far as to be known
	}
	message := fmt.Sprintf("user %d recovered the cluster from server %s, whose log ended at entry %d, and gave up %s: what they alone had acknowledged is lost",
		os.Getuid(), s.Server, s.Index, strings.Join(s.Lost(), ", "))
	changed := cluster.DeepCopy()
	apimeta.RemoveStatusCondition(&changed.Status.Conditions, object.MajorityLost) // for the time of this one
	apimeta.SetStatusCondition(&changed.Status.Conditions, metav1.Condition{
		Type: object.MajorityLost, Status: metav1.ConditionTrue, Reason: "RecoveredByHand", Message: message, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
	tx.Require(cluster)
	tx.SetStatus(changed)
	event.Emit(tx, event.Event{About: cluster, From: "server", Type: corev1.EventTypeWarning, Reason: object.MajorityLost, Message: message}, now)
	return nil
}

// leadOnce has a server that is alone do something as the one that leads.
func leadOnce(ctx context.Context, raft *raftlog.Log, do func(term context.Context) error) error {
	var result error
	ctx, done := context.WithCancel(ctx)
	defer done()
	called := false
	err := raft.Lead(ctx, func(term context.Context) error {
		called, result = true, do(term)
		done()
		return result
	})
	if called {
		return result
	}
	return errors.Join(err, raft.Err())
}

// writeOnce writes one transaction.
func writeOnce(ctx context.Context, raft *raftlog.Log, store *state.Store, write func(*state.Txn) error) error {
	g, ctx := errgroup.WithContext(ctx)
	ctx, done := context.WithCancel(ctx)
	g.Go(func() error {
		if err := store.Commit(ctx, raft); ctx.Err() == nil {
			return err
		}
		return nil
	})
	g.Go(func() error {
		defer done()
		if err := store.Leading(ctx); err != nil {
			return err
		}
		_, err := store.Update(ctx, write)
		return err
	})
	return g.Wait()
}
