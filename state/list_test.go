package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// However what an index names lies among other objects, all of it is listed, in order, and no more than was asked for.
func TestListByFindsAllThatAnIndexNames(t *testing.T) {
	for name, node := range map[string]func(i int) string{
		"side by side":          func(i int) string { return []string{"a", "n", "z"}[i/1000] },
		"close to each other":   func(i int) string { return []string{"n", "a", "z"}[i%3] },
		"far from each other":   func(i int) string { return map[bool]string{true: "n", false: "a"}[i%40 == 7] },
		"in groups":             func(i int) string { return []string{"n", "a"}[i/7%2] },
		"one":                   func(i int) string { return map[bool]string{true: "n", false: "m"}[i == 1234] },
		"nothing of that value": func(int) string { return "other" },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(testSchema(), time.Now)
			tx := &Txn{base: s.View(), now: time.Now()}
			var want []string
			for i := range 3000 {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%04d", i)}, Spec: corev1.PodSpec{NodeName: node(i)}}
				tx.Create(pod)
				if node(i) == "n" {
					want = append(want, pod.Name)
				}
			}
			s.Apply(1, encodeBatch([][]byte{encodeTxn(tx.ops)}))
			for _, most := range []int{1, 3, 4, 5, 20, 21, 400, 4000} {
				var got []string
				for pod := range ListBy(s.View(), byNode, "n") {
					got = append(got, pod.Name)
					if len(got) == most {
						break
					}
				}
				if !slices.Equal(got, want[:min(most, len(want))]) {
					t.Errorf("of %d at most there are %d, want the first of %d", most, len(got), len(want))
				}
			}
		})
	}
}
