//go:build !chaos

package raftlog

import "testing"

func TestAProgramThatIsNotBuiltToBeHurtObeysNobody(t *testing.T) {
	t.Setenv("MAINSTAY_CHAOS_ORDER", "/somewhere")
	if fromOutside() != nil {
		t.Error("it listens")
	}
}
