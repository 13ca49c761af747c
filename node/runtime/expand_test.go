package runtime_test

import (
	"testing"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "a", "B": "$(A)"}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "a", "x$(A)y$(A)": "xaya", "$(B)": "$(A)", "$$(A)": "$(A)", "$$$(A)": "$a", "$(C)": "$(C)", "$(A": "$(A", "$": "$", "a$": "a$", "$A": "$A", "$()": "$()", "é$é$(A)": "é$éa",
	} {
		if got := runtime.Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}
