package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

var jobKey = state.Key{Namespace: "shop", Name: "job"}

// running gives a store whose Pod shop/job is bound to a node.
func running(t *testing.T) *state.Store {
	s := statetest.New(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"pod.yaml", podShop}}, commitA)
	statetest.Update(t, s, func(tx *state.Txn) {
		pod, _ := state.Get[*corev1.Pod](tx, jobKey)
		pod = pod.DeepCopy()
		pod.Spec.NodeName = "n1"
		tx.Update(pod)
	})
	return s
}

// P6: the Pod is only marked; who stops it waits for its successor's image.
func TestAPodWhoseSpecChangedRunsOnUntilItsSuccessorCanStart(t *testing.T) {
	s := running(t)
	before, _ := state.Get[*corev1.Pod](s.View(), jobKey)
	files := tree{{"ns.yaml", namespaceShop}, {"pod.yaml", strings.Replace(podShop, "job:1", "job:2", 1)}}
	p := activate(t, s, files, commitB)
	if diff := cmp.Diff([]string{"replace Pod shop/job"}, steps(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	change := plan.Describe(p)[0]
	if diff := cmp.Diff([]plan.FieldChange{{Path: "spec.containers[name=job].image", Old: `"job:1"`, New: `"job:2"`}}, change.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	after, ok := state.Get[*corev1.Pod](s.View(), jobKey)
	if !ok || after.UID != before.UID || after.DeletionTimestamp != nil || after.Spec.Containers[0].Image != "job:1" {
		t.Fatalf("the running Pod must stay as it is: %+v", after)
	}
	if images, replaced := object.ReplacementImages(after); !replaced || !slices.Equal(images, []string{"job:2"}) {
		t.Errorf("it is to be replaced by %v (%v), want job:2", images, replaced)
	}
	if again := activate(t, s, files, commitB); !again.Empty() {
		t.Errorf("while it waits, there is more to do: %v", steps(again))
	}
}

func TestAReplacementThatIsTakenBackNeverHappens(t *testing.T) {
	s := running(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"pod.yaml", strings.Replace(podShop, "job:1", "job:2", 1)}}, commitB)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"pod.yaml", podShop}}, commitA)
	pod, _ := state.Get[*corev1.Pod](s.View(), jobKey)
	if _, replaced := object.ReplacementImages(pod); replaced || pod.DeletionTimestamp != nil {
		t.Errorf("the Pod is what Git declares again, and yet goes: %+v", pod.ObjectMeta)
	}
}

func TestAPodWhoseLabelsChangedGoesOn(t *testing.T) {
	s := running(t)
	p := activate(t, s, tree{{"ns.yaml", namespaceShop}, {"pod.yaml", strings.Replace(podShop, "name: job,", "name: job, labels: {a: b},", 1)}}, commitB)
	if diff := cmp.Diff([]string{"update Pod shop/job"}, steps(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	pod, _ := state.Get[*corev1.Pod](s.View(), jobKey)
	if pod.DeletionTimestamp != nil || pod.Spec.NodeName != "n1" || pod.Labels["a"] != "b" {
		t.Errorf("pod = %+v", pod)
	}
}

func TestAPodThatIsNoLongerDeclaredIsStopped(t *testing.T) {
	s := running(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}}, commitB)
	if pod, ok := state.Get[*corev1.Pod](s.View(), jobKey); !ok || pod.DeletionTimestamp == nil {
		t.Errorf("a Pod on a node is not deleted before its node has stopped it: %+v", pod)
	}
	s = statetest.New(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"pod.yaml", podShop}}, commitA)
	activate(t, s, tree{{"ns.yaml", namespaceShop}}, commitB)
	if _, ok := state.Get[*corev1.Pod](s.View(), jobKey); ok {
		t.Error("a Pod on no node stays")
	}
}

// A Pod that a rebuilt server took in from its node has no Source: it goes on if it is what the repository declares, and is
// replaced if not, also where only something was dropped.
func TestAnAdoptedPodIsCompared(t *testing.T) {
	adopt := func(change func(*corev1.Pod)) *state.Store {
		pod := tree{{"pod.yaml", podShop}}.desired(t)[0].Object.(*corev1.Pod).DeepCopy()
		pod.Spec.NodeName = "n1"
		change(pod)
		return statetest.New(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, pod)
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"the same":         {func(*corev1.Pod) {}, "record Pod shop/job"},
		"another image":    {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "job:0" }, "replace Pod shop/job"},
		"a variable more":  {func(p *corev1.Pod) { p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A"}} }, "replace Pod shop/job"},
		"a container more": {func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "x"}) }, "replace Pod shop/job"},
		"a field more":     {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "replace Pod shop/job"},
	} {
		t.Run(name, func(t *testing.T) {
			p := activate(t, adopt(tc.change), tree{{"ns.yaml", namespaceShop}, {"pod.yaml", podShop}}, commitA)
			if got := steps(p); got[len(got)-1] != tc.want {
				t.Errorf("steps = %v, want %s at the end", got, tc.want)
			}
		})
	}
}
