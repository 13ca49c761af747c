package server

import (
	"net"
	"testing"
	"time"
)

// A connection on which nobody asks anything does not hold up the process's end.
func TestStopDoesNotWaitForSilentConnections(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "convergence", converged(3))
	conn, err := net.Dial("tcp", running.reachable)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// Who asks a server that has just started waits until it leads or has found who does: that is no outage.
func TestReadsWaitForTheFirstElection(t *testing.T) {
	running, _ := newSite(t, map[string]string{"web.yaml": web}).control(t)
	if running.store.Leads() {
		t.Fatal("it leads already: the test shows nothing")
	}
	if err := running.readIndex(t.Context()); err != nil {
		t.Error(err)
	}
}
