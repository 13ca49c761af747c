package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/state/raftlog"
)

// censusTime is how long the other servers have to answer before they count as not answering.
const censusTime = time.Second

// noQuorum says what an error of a read means: which servers do not answer, if they are too few.
func (s *server) noQuorum(ctx context.Context, err error) error {
	members, failed, _ := s.census.Do("", func() (any, error) { // thousands may ask at once
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), censusTime)
		defer cancel()
		return s.raft.Servers(ctx)
	})
	if failed != nil {
		return err
	}
	if lack := lackOf(members.([]raftlog.Server)); lack != "" {
		return fmt.Errorf("no quorum: %s", lack)
	}
	return err
}

// lackOf says which voters do not answer, if those that do are no majority; else it is empty.
func lackOf(members []raftlog.Server) string {
	voters, missing := 0, []string{}
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		if !m.Reached {
			missing = append(missing, fmt.Sprintf("%s (%s)", m.ID, m.Address))
		}
	}
	needed := voters/2 + 1
	if voters-len(missing) >= needed {
		return ""
	}
	return fmt.Sprintf("%d of %d servers answer, and %d are needed; this one does not reach %s",
		voters-len(missing), voters, needed, strings.Join(missing, ", "))
}
