package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/server"
)

func TestListOfServers(t *testing.T) {
	var out strings.Builder
	if err := printServers(&out, []server.Member{
		{Name: "s1", Address: "10.0.0.1:7443", Role: server.Voter, Leader: true, Reached: true, Version: "1.1", Level: 2},
		{Name: "s2", Address: "10.0.0.2:7443", Role: server.Voter, Version: "1.0", Level: 1},
		{Name: "s3", Address: "10.0.0.3:7443", Role: server.Pending},
	}); err != nil {
		t.Fatal(err)
	}
	table, advice, _ := strings.Cut(out.String(), "\n\n")
	if diff := cmp.Diff(`NAME   ADDRESS         ROLE      LEADER   REACHED   LAG   VERSION   LEVEL
s1     10.0.0.1:7443   Voter     yes      yes       0     1.1       2
s2     10.0.0.2:7443   Voter     no       no        -     1.0       1
s3     10.0.0.3:7443   Pending   no       no        -               -`, table); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(advice, "No quorum: 1 of 2 voters answer, 2 are needed.") {
		t.Errorf("advice: %s", advice)
	}
}
