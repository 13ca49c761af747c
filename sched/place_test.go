package sched

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

type nodeOption func(*corev1.Node)

// aNode is ready and has 4 cores, 8Gi and room for 10 Pods.
func aNode(name string, options ...nodeOption) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = amounts("cpu", "4", "memory", "8Gi", "ephemeral-storage", "10Gi", "pods", "10")
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, o := range options {
		o(n)
	}
	return n
}

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func has(pairs ...string) nodeOption {
	return func(n *corev1.Node) {
		for name, q := range amounts(pairs...) {
			n.Status.Allocatable[name] = q
		}
	}
}

func taint(key string, effect corev1.TaintEffect) nodeOption {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func label(key, value string) nodeOption { return func(n *corev1.Node) { n.Labels[key] = value } }

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func broken(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }

type podOption func(*corev1.Pod)

func aPod(name string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	for _, o := range options {
		o(p)
	}
	return p
}

func asks(pairs ...string) podOption {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts(pairs...) }
}

func initAsks(pairs ...string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "i", Resources: corev1.ResourceRequirements{Requests: amounts(pairs...)}})
	}
}

func on(node string) podOption { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func in(phase corev1.PodPhase) podOption { return func(p *corev1.Pod) { p.Status.Phase = phase } }

func ownedBy(uid string) podOption {
	return func(p *corev1.Pod) {
		controller := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), Controller: &controller}}
	}
}

func selects(key, value string) podOption {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func requires(key string, operator corev1.NodeSelectorOperator, values ...string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}},
		}}}
	}
}

func prefers(key, value string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}},
		}}}}
	}
}

func toleratesKey(key string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

func listens(ip string, port int32) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostIP: ip, HostPort: port, Protocol: corev1.ProtocolTCP}}
	}
}

func TestPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		have []object.Object
		pod  *corev1.Pod
		want string
		why  Reasons
	}{
		"no nodes":                              {pod: aPod("p"), why: Reasons{}},
		"the only node":                         {have: []object.Object{aNode("a")}, pod: aPod("p"), want: "a"},
		"first of equal ones":                   {have: []object.Object{aNode("b"), aNode("a"), aNode("c")}, pod: aPod("p"), want: "a"},
		"exactly what is left":                  {have: []object.Object{aNode("a"), aPod("x", on("a"), asks("cpu", "3"))}, pod: aPod("p", asks("cpu", "1")), want: "a"},
		"too little cpu":                        {have: []object.Object{aNode("a"), aPod("x", on("a"), asks("cpu", "3"))}, pod: aPod("p", asks("cpu", "1001m")), why: Reasons{"Insufficient cpu": 1}},
		"too little of several":                 {have: []object.Object{aNode("a")}, pod: aPod("p", asks("cpu", "5", "memory", "9Gi", "ephemeral-storage", "11Gi")), why: Reasons{"Insufficient cpu": 1, "Insufficient memory": 1, "Insufficient ephemeral-storage": 1}},
		"asks for nothing on an overfull node":  {have: []object.Object{aNode("a"), aPod("x", on("a"), asks("cpu", "5"))}, pod: aPod("p"), want: "a"},
		"too many pods":                         {have: []object.Object{aNode("a", has("pods", "1")), aPod("x", on("a"))}, pod: aPod("p"), why: Reasons{"Too many pods": 1}},
		"finished Pods use nothing":             {have: []object.Object{aNode("a"), aPod("x", on("a"), asks("cpu", "4"), in(corev1.PodSucceeded))}, pod: aPod("p", asks("cpu", "4")), want: "a"},
		"an init container counts":              {have: []object.Object{aNode("a")}, pod: aPod("p", asks("cpu", "1"), initAsks("cpu", "5")), why: Reasons{"Insufficient cpu": 1}},
		"init containers take turns":            {have: []object.Object{aNode("a")}, pod: aPod("p", asks("cpu", "1"), initAsks("cpu", "4"), initAsks("cpu", "4")), want: "a"},
		"overhead counts":                       {have: []object.Object{aNode("a")}, pod: aPod("p", asks("cpu", "4"), func(p *corev1.Pod) { p.Spec.Overhead = amounts("cpu", "1m") }), why: Reasons{"Insufficient cpu": 1}},
		"other resources":                       {have: []object.Object{aNode("a"), aNode("b", has("example.org/gpu", "1"))}, pod: aPod("p", asks("example.org/gpu", "1")), want: "b"},
		"other resources run out":               {have: []object.Object{aNode("a", has("example.org/gpu", "1")), aPod("x", on("a"), asks("example.org/gpu", "1"))}, pod: aPod("p", asks("example.org/gpu", "1")), why: Reasons{"Insufficient example.org/gpu": 1}},
		"not ready":                             {have: []object.Object{aNode("a", broken)}, pod: aPod("p"), why: Reasons{notReady: 1}},
		"cordoned":                              {have: []object.Object{aNode("a", cordoned)}, pod: aPod("p"), why: Reasons{unschedulable: 1}},
		"cordoned and tolerated":                {have: []object.Object{aNode("a", cordoned)}, pod: aPod("p", toleratesKey(corev1.TaintNodeUnschedulable)), want: "a"},
		"NoSchedule":                            {have: []object.Object{aNode("a", taint("gpu", corev1.TaintEffectNoSchedule))}, pod: aPod("p"), why: Reasons{tainted: 1}},
		"NoExecute":                             {have: []object.Object{aNode("a", taint("gpu", corev1.TaintEffectNoExecute))}, pod: aPod("p"), why: Reasons{tainted: 1}},
		"tolerated":                             {have: []object.Object{aNode("a", taint("gpu", corev1.TaintEffectNoSchedule))}, pod: aPod("p", toleratesKey("gpu")), want: "a"},
		"PreferNoSchedule is avoided":           {have: []object.Object{aNode("a", taint("old", corev1.TaintEffectPreferNoSchedule)), aNode("b"), aPod("x", on("b"), asks("cpu", "2"))}, pod: aPod("p"), want: "b"},
		"PreferNoSchedule is allowed":           {have: []object.Object{aNode("a", taint("old", corev1.TaintEffectPreferNoSchedule))}, pod: aPod("p"), want: "a"},
		"nodeSelector":                          {have: []object.Object{aNode("a"), aNode("b", label("disk", "ssd"))}, pod: aPod("p", selects("disk", "ssd")), want: "b"},
		"nodeSelector of no node":               {have: []object.Object{aNode("a"), aNode("b")}, pod: aPod("p", selects("disk", "ssd")), why: Reasons{unmatched: 2}},
		"required affinity":                     {have: []object.Object{aNode("a"), aNode("b", label("disk", "ssd"))}, pod: aPod("p", requires("disk", corev1.NodeSelectorOpExists)), want: "b"},
		"required anti-affinity":                {have: []object.Object{aNode("a", label("disk", "hdd")), aNode("b")}, pod: aPod("p", requires("disk", corev1.NodeSelectorOpNotIn, "hdd")), want: "b"},
		"preferred affinity":                    {have: []object.Object{aNode("a"), aNode("b", label("disk", "ssd"))}, pod: aPod("p", prefers("disk", "ssd")), want: "b"},
		"preferred of no node":                  {have: []object.Object{aNode("a")}, pod: aPod("p", prefers("disk", "ssd")), want: "a"},
		"host port taken":                       {have: []object.Object{aNode("a"), aPod("x", on("a"), listens("", 80))}, pod: aPod("p", listens("", 80)), why: Reasons{portsInUse: 1}},
		"host port taken on one address of all": {have: []object.Object{aNode("a"), aPod("x", on("a"), listens("10.0.0.1", 80))}, pod: aPod("p", listens("0.0.0.0", 80)), why: Reasons{portsInUse: 1}},
		"host port on another address":          {have: []object.Object{aNode("a"), aPod("x", on("a"), listens("10.0.0.1", 80))}, pod: aPod("p", listens("10.0.0.2", 80)), want: "a"},
		"another host port":                     {have: []object.Object{aNode("a"), aPod("x", on("a"), listens("", 80))}, pod: aPod("p", listens("", 81)), want: "a"},
		"the emptier node":                      {have: []object.Object{aNode("a"), aNode("b"), aPod("x", on("a"), asks("cpu", "2", "memory", "4Gi"))}, pod: aPod("p", asks("cpu", "1", "memory", "1Gi")), want: "b"},
		"Pods that ask for nothing spread":      {have: []object.Object{aNode("a"), aNode("b"), aPod("x", on("a"))}, pod: aPod("p"), want: "b"},
		"the better balanced node":              {have: []object.Object{aNode("a"), aNode("b"), aPod("x", on("a"), asks("cpu", "2", "memory", "0")), aPod("y", on("b"), asks("cpu", "0", "memory", "4Gi"))}, pod: aPod("p", asks("cpu", "1", "memory", "0")), want: "b"},
		"away from its siblings":                {have: []object.Object{aNode("a"), aNode("b"), aPod("x", on("a"), ownedBy("rs")), aPod("y", on("b"), asks("cpu", "2", "memory", "1Gi"))}, pod: aPod("p", ownedBy("rs")), want: "b"},
		"a mixture of reasons": {
			have: []object.Object{aNode("a", cordoned), aNode("b", taint("gpu", corev1.TaintEffectNoSchedule)), aNode("c", has("cpu", "1")), aNode("d", broken)},
			pod:  aPod("p", asks("cpu", "2")), why: Reasons{unschedulable: 1, tainted: 1, "Insufficient cpu": 1, notReady: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := statetest.New(t, tc.have...)
			got, why := Place(NewView(s.View()), tc.pod)
			if got != tc.want {
				t.Errorf("node = %q, want %q (%v)", got, tc.want, why)
			}
			if diff := cmp.Diff(tc.why, why); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMessageIsKubeSchedulers(t *testing.T) {
	got := Reasons{tainted: 2, "Insufficient cpu": 1}.message(3)
	if want := "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s)."; got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
}

// Whatever the Pods and nodes, no node ever holds more than it has, and no Pod is where it may not be.
func TestBindNeverOvercommits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var objects []object.Object
		for i := range rapid.IntRange(1, 5).Draw(rt, "nodes") {
			n := aNode(fmt.Sprint("n", i), has("cpu", fmt.Sprint(rapid.IntRange(1, 4).Draw(rt, "cpu")), "pods", fmt.Sprint(rapid.IntRange(0, 6).Draw(rt, "room"))))
			if rapid.Bool().Draw(rt, "tainted") {
				n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
			}
			objects = append(objects, n)
		}
		for i := range rapid.IntRange(1, 25).Draw(rt, "pods") {
			p := aPod(fmt.Sprint("p", i), asks("cpu", fmt.Sprint(rapid.IntRange(0, 2000).Draw(rt, "asks"), "m")), ownedBy(fmt.Sprint("rs", i%3)))
			if rapid.Bool().Draw(rt, "tolerates") {
				toleratesKey("gpu")(p)
			}
			if rapid.IntRange(0, 3).Draw(rt, "port") == 0 {
				listens("", 80)(p)
			}
			objects = append(objects, p)
		}
		s := statetest.New(t, objects...)
		var result Result
		statetest.Update(t, s, func(tx *state.Txn) { result = Bind(tx, time.Now()) })
		checkNodes(rt, s.View())
		for _, u := range result.Unschedulable {
			if node, _ := Place(NewView(s.View()), u.Pod); node != "" {
				rt.Fatalf("%s fits on %s and was called unschedulable: %s", u.Pod.Name, node, u.Message)
			}
		}
	})
}

func checkNodes(t *rapid.T, snap *state.Snapshot) {
	for n := range state.List[*corev1.Node](snap, "") {
		free, room, listening := n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Pods().Value(), 0
		for p := range state.List[*corev1.Pod](snap, "") {
			if p.Spec.NodeName != n.Name {
				continue
			}
			free -= p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
			room--
			listening += len(p.Spec.Containers[0].Ports)
			if len(n.Spec.Taints) > 0 && len(p.Spec.Tolerations) == 0 {
				t.Fatalf("%s is on the tainted %s", p.Name, n.Name)
			}
		}
		if free < 0 || room < 0 || listening > 1 {
			t.Fatalf("%s has %dm cpu, %d places left and %d Pods on one port", n.Name, free, room, listening)
		}
	}
}
