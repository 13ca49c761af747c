package raftlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// Forsake makes the log in cfg.Dir, which no process may have open, that of a cluster of this server alone: of the other members,
// as listed, none takes part any more. What this server has in its log counts as acknowledged, whether it was or not. It is for
// a majority that is lost for good: should the others ever run again, there would be two clusters. cfg.Store must be empty and is
// of no use afterwards.
func Forsake(cfg Config, members []Server) error {
	i := slices.IndexFunc(members, func(s Server) bool { return s.ID == cfg.ID })
	if i < 0 {
		return fmt.Errorf("forsake the other servers: %s is no member itself", cfg.ID)
	}
	cfg.SnapshotBytes, cfg.Patience = snapshotBytes, patience
	failure := newFailure()
	d, err := openDisk(cfg, failure)
	if err != nil {
		return err
	}
	self := d.identity.now()
	if self.Lost {
		return errors.Join(errors.New("forsake the other servers: this server lost its log and has nothing of what they acknowledged: do it on another"), d.close())
	}
	conf := raftConfig(cfg, raft.ServerID(self.Member))
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: conf.LocalID, Address: raft.ServerAddress(members[i].Address)}}}
	_, nobody := raft.NewInmemTransport(raft.ServerAddress(members[i].Address))
	err = apart(failure, func() error {
		return raft.RecoverCluster(conf, newFSM(cfg.Store, failure, cfg.SnapshotBytes), d, d, d.snapshots, nobody, alone)
	})
	if err = errors.Join(err, d.close()); err != nil {
		return fmt.Errorf("forsake the other servers: %w", err)
	}
	return nil
}
