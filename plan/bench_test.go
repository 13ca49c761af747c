package plan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// deployments declares n of them, all with one image.
func deployments(b *testing.B, n int, image string) (out []plan.Desired) {
	for i := range n {
		text, err := yaml.YAMLToJSON([]byte(strings.NewReplacer("name: web,", fmt.Sprintf("name: web-%d,", i), "web:1", image).Replace(webShop)))
		if err != nil {
			b.Fatal(err)
		}
		d := &appsv1.Deployment{}
		if err := json.Unmarshal(text, d); err != nil {
			b.Fatal(err)
		}
		kube.Default(d)
		out = append(out, plan.Desired{Object: d, Kind: object.KindOf(d), Declared: text, Path: "web.yaml", Line: i})
	}
	return out
}

func benchmarkCompute(b *testing.B, image string, changed int) {
	const n = 4000
	s := statetest.New(b)
	statetest.Update(b, s, func(tx *state.Txn) {
		p, _ := plan.Compute(deployments(b, n, "web:1"), rules, tx)
		plan.Apply(tx, p, commitA, time.Unix(0, 0))
	})
	want := deployments(b, n, image)
	for b.Loop() {
		p, problems := plan.Compute(want, rules, s.View())
		if len(problems) > 0 || p.Counts.Changed != changed {
			b.Fatal(p.Counts, problems)
		}
	}
}

func BenchmarkComputeUntouched(b *testing.B) { benchmarkCompute(b, "web:1", 0) }
func BenchmarkComputeChanged(b *testing.B)   { benchmarkCompute(b, "web:2", 4000) }
