package dns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// rows are all rows of a table, readable.
func rows(t *table) (all []string) {
	t.services.Ascend(func(s service) bool {
		all = append(all, s.key)
		return true
	})
	t.back.Ascend(func(p pointer) bool {
		all = append(all, p.reverse+" "+p.target)
		return true
	})
	for _, pods := range t.pods {
		all = append(all, pods.String())
	}
	return all
}

func TestAChangeLeadsToTheSameTableAsAllAnew(t *testing.T) {
	n := example()
	delete(n.Peers, "b") // of two ranges, any may come first
	have := tableOf(n)
	key := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	for name, change := range map[string]func() types.NamespacedName{
		"an endpoint went": func() types.NamespacedName {
			delete(n.Slices[key("shop", "db")], "db-2")
			return key("shop", "db")
		},
		"a Service came":      func() types.NamespacedName { return put(n, serviceOf("shop", "new", "10.96.0.9")) },
		"its address changed": func() types.NamespacedName { return put(n, serviceOf("shop", "web", "10.96.0.8")) },
		"it became headless":  func() types.NamespacedName { return put(n, serviceOf("default", "kubernetes", corev1.ClusterIPNone)) },
		"a Service went": func() types.NamespacedName {
			delete(n.Services, key("shop", "early"))
			return key("shop", "early")
		},
		"one that never was went": func() types.NamespacedName { return key("shop", "never") },
	} {
		changed := change()
		have = have.fork()
		have.update(n, link.NetworkChange{Services: []types.NamespacedName{changed}})
		if diff := cmp.Diff(rows(tableOf(n)), rows(have)); diff != "" {
			t.Errorf("%s: -all anew +changed\n%s", name, diff)
		}
	}
}

func TestAPublishedTableDoesNotChange(t *testing.T) {
	n := example()
	delete(n.Peers, "b")
	old := tableOf(n)
	before := rows(old)
	next := old.fork()
	n.Peers["a"] = link.Peer{Name: "a", PodCIDR: "10.244.9.0/24"}
	next.update(n, link.NetworkChange{Peers: true, Services: []types.NamespacedName{put(n, serviceOf("shop", "new", "10.96.0.9"))}})
	if diff := cmp.Diff(before, rows(old)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	if cmp.Equal(before, rows(next)) {
		t.Error("the next table is no other")
	}
}
