package object

import "testing"

func TestProblemLeavesOutWhatIsNotKnown(t *testing.T) {
	for want, p := range map[string]Problem{
		"a.yaml:3:5: Pod web: spec.x: unknown": {Path: "a.yaml", Line: 3, Column: 5, Object: "Pod web", Field: "spec.x", Message: "unknown"},
		"a.yaml:3: unknown":                    {Path: "a.yaml", Line: 3, Message: "unknown"},
		"a.yaml: too large":                    {Path: "a.yaml", Message: "too large"},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
