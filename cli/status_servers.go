package cli

import (
	"context"
	"fmt"
	"strings"
)

// Server is one of the cluster's servers, as the one that was asked knows it.
type Server struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Role    string `json:"role"` // Voter, NonVoter or Pending
	Leader  bool   `json:"leader"`
	Reached bool   `json:"reached"`           // it answered just now
	Lag     uint64 `json:"lag"`               // entries of the log that it lacks; means nothing if it was not reached
	Version string `json:"version"`           // of Mainstay
	Level   int    `json:"level,omitempty"`   // the newest format level that it reads; 0: not told yet
	Trouble string `json:"trouble,omitempty"` // why it writes nothing, and what to do
}

const roleVoter = "Voter"

type serverList []Server

// readServers asks one server which there are. That needs no quorum. One of an older version tells none.
func readServers(ctx context.Context, c *client) (list serverList, err error) {
	if err = c.get(ctx, request{path: "/mainstay/v1/servers"}, &list); isNotFound(err) {
		return nil, nil
	}
	return list, err
}

// lack says why nothing can be written, "" if it can.
func (l serverList) lack() string {
	voters, leader, missing := 0, "", []string{}
	for _, s := range l {
		if s.Role != roleVoter {
			continue
		}
		voters++
		if s.Leader && s.Reached {
			leader = s.Name
		}
		if !s.Reached {
			missing = append(missing, s.Name+" ("+s.Address+")")
		}
	}
	needed := voters/2 + 1
	switch {
	case voters == 0:
		return ""
	case voters-len(missing) < needed:
		return fmt.Sprintf("no quorum: %d of %d servers answer, and %d are needed: start %s again, or see why the network keeps them apart",
			voters-len(missing), voters, needed, strings.Join(missing, " or "))
	case leader == "":
		return fmt.Sprintf("no leader: %d of %d servers answer, and none leads%s", voters-len(missing), voters, l.hindrance())
	}
	return ""
}

// hindrance is why servers that answer do not lead.
func (l serverList) hindrance() string {
	var troubles []string
	for _, s := range l {
		if s.Trouble != "" {
			troubles = append(troubles, s.troubled())
		}
	}
	if len(troubles) > 0 {
		return ": " + strings.Join(troubles, "; ")
	}
	return " yet: that takes seconds; if it lasts, their logs say why"
}

func (s Server) troubled() string { return s.Name + " writes nothing: " + s.Trouble }

// addServers puts what is known of the servers first: without a quorum, nothing is as it should be.
func (s *Status) addServers(list serverList) {
	s.Servers, s.NoQuorum = list, list.lack()
	if s.NoQuorum != "" {
		s.Converged, s.Why = false, "nothing can be changed now: what runs keeps running"
	}
}

// serversText is "s1 leads · s2 is up to date · s3 is 12 entries behind", and what is wrong besides, a line for each server.
func serversText(s Status) (text string, wrong []string) {
	leader, others := "none leads", []string{}
	for _, m := range s.Servers {
		switch {
		case m.Role == "Pending":
			wrong = append(wrong, fmt.Sprintf("%s at %s is joining", m.Name, m.Address))
		case !m.Reached:
			wrong = append(wrong, fmt.Sprintf("%s at %s does not answer", m.Name, m.Address))
		case m.Trouble != "" && s.NoQuorum == "":
			wrong = append(wrong, m.troubled())
		case m.Leader:
			leader = m.Name + " leads"
		case m.Lag > 0:
			others = append(others, fmt.Sprintf("%s is %d entries behind", m.Name, m.Lag))
		default:
			others = append(others, m.Name+" is up to date")
		}
	}
	return strings.Join(append([]string{leader}, others...), " · "), wrong
}
