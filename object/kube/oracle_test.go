package kube

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/networking/install" // the one group that its printers do not bring
	k8sprinters "k8s.io/kubernetes/pkg/printers"
	"k8s.io/kubernetes/pkg/printers/internalversion"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/mainstay-cluster/mainstay/object"
)

// kubernetes prints obj by Kubernetes' own code.
func kubernetes(t testing.TB, obj object.Object) *metav1.Table {
	t.Helper()
	gvk := object.KindOf(obj).GroupVersionKind
	gvk.Version = runtime.APIVersionInternal
	in, err := legacyscheme.Scheme.New(gvk)
	if err == nil {
		err = legacyscheme.Scheme.Convert(obj, in, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	table, err := k8sprinters.NewTableGenerator().With(internalversion.AddHandlers).GenerateTable(in, k8sprinters.GenerateOptions{Wide: true})
	if err != nil {
		t.Fatalf("%T: %v", obj, err)
	}
	return table
}

// sameTable compares all but the descriptions, which are our own words.
func sameTable(t testing.TB, obj object.Object) string {
	t.Helper()
	want, got := kubernetes(t, obj), Table(object.KindOf(obj), []object.Object{obj})
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(metav1.TableColumnDefinition{}, "Description"),
		cmpopts.IgnoreFields(metav1.TableRow{}, "Object"), cmpopts.IgnoreFields(metav1.TableRowCondition{}, "Message"))
}

// Every kind of Kubernetes has Kubernetes' columns: one without any here fails by its missing titles.
func TestColumnsAreKubernetes(t *testing.T) {
	for _, k := range object.Kinds() {
		if obj := k.New(); k.Group != object.GroupVersion.Group {
			if node, ok := obj.(*corev1.Node); ok {
				node.Spec.PodCIDR = "10.244.0.0/24" // it has joined
			}
			if diff := sameTable(t, obj); diff != "" {
				t.Errorf("an empty %s, -Kubernetes +Mainstay:\n%s", k.Kind, diff)
			}
		}
	}
}

func TestCellsAreKubernetes(t *testing.T) {
	for name, obj := range map[string]object.Object{
		"namespace": &corev1.Namespace{ObjectMeta: named("shop"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}},
		"configmap": &corev1.ConfigMap{ObjectMeta: named("c"), Data: map[string]string{"a": "", "b": ""}, BinaryData: map[string][]byte{"c": nil}},
		"secret":    &corev1.Secret{ObjectMeta: named("s"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"c": nil}},
		"cluster IP": &corev1.Service{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"10.0.0.1", "fd00::1"},
			Selector: map[string]string{"b": "2", "a": "1"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: "TCP"}, {Port: 53, Protocol: "UDP", NodePort: 30053}}}},
		"no selector": &corev1.Service{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ExternalIPs: []string{"1.2.3.4", "1.2.3.5"}}},
		"external":    &corev1.Service{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}},
		"pending":     &corev1.Service{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}},
		"balanced": &corev1.Service{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{"1.2.3.4"}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: "lb"}, {IP: "9.9.9.9"}, {}, {IP: "9.9.9.9"}}}}},
		"slice": &discoveryv1.EndpointSlice{ObjectMeta: named("e"), AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Port: ptr.To[int32](80)}, {Name: ptr.To("http")}, {}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"1", "2"}}, {Addresses: []string{"3"}}, {Addresses: []string{"4", "5"}}}},
		"policy": &networkingv1.NetworkPolicy{ObjectMeta: named("p"), Spec: networkingv1.NetworkPolicySpec{PodSelector: *selector()}},
		"budget": &policyv1.PodDisruptionBudget{ObjectMeta: named("b"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("50%"))},
			Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 2}},
		"node": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"node-role.kubernetes.io/web": "", "node-role.kubernetes.io/": "", "kubernetes.io/role": "db"}},
			Spec: corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}},
				Addresses: []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "2"}, {Type: corev1.NodeInternalIP, Address: "1"}, {Type: corev1.NodeInternalIP, Address: "3"}},
				NodeInfo:  corev1.NodeSystemInfo{KubeletVersion: "v1", OSImage: "Debian", KernelVersion: "6", Architecture: "amd64", ContainerRuntimeVersion: "docker://20"}}},
		"unknown node": &corev1.Node{ObjectMeta: named("n"), Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}},
		"event": &corev1.Event{ObjectMeta: named("e"), FirstTimestamp: ago(time.Hour), LastTimestamp: ago(time.Minute), Count: 7, Type: "Warning", Reason: "BackOff",
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", FieldPath: "spec.containers{web}"}, Message: " it \n",
			Source: corev1.EventSource{Component: "agent", Host: "n1"}},
		"event in a series": &corev1.Event{ObjectMeta: named("e"), EventTime: metav1.NewMicroTime(ago(2 * time.Hour).Time), InvolvedObject: corev1.ObjectReference{Kind: "Node"},
			Series: &corev1.EventSeries{Count: 3, LastObservedTime: metav1.NewMicroTime(ago(time.Hour).Time)}, ReportingController: "sched"},
		"replicaset": &appsv1.ReplicaSet{ObjectMeta: named("r"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3), Template: twoContainers(), Selector: selector()},
			Status: appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1}},
		"deployment": &appsv1.Deployment{ObjectMeta: named("d"), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Template: twoContainers(), Selector: selector()},
			Status: appsv1.DeploymentStatus{ReadyReplicas: 1, UpdatedReplicas: 2, AvailableReplicas: 3}},
		"bad selector": &appsv1.Deployment{ObjectMeta: named("d"), Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}}},
	} {
		if diff := sameTable(t, obj); diff != "" {
			t.Errorf("%s, -Kubernetes +Mainstay:\n%s", name, diff)
		}
	}
}

// A node that Git declares has a status of its own until its machine joins.
func TestADeclaredNodeIsNotJoined(t *testing.T) {
	declared := &corev1.Node{ObjectMeta: named("n"), Spec: corev1.NodeSpec{Unschedulable: true}}
	cells := Table(object.KindOf(declared), []object.Object{declared}).Rows[0].Cells
	if want := "NotJoined,SchedulingDisabled"; cells[1] != want {
		t.Errorf("status %q, want %q", cells[1], want)
	}
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: ago(5 * time.Hour)}
}

// ago is far enough from the next full unit that two looks at the clock see the same age.
func ago(d time.Duration) metav1.Time { return metav1.NewTime(time.Now().Add(-d - d/100)) }

func twoContainers() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a:1"}, {Name: "b", Image: "b:1"}}}}
}

func selector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"},
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "y"}}}}
}

func TestPodsOfAnyShapeAreKubernetes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pod := anyPod(rt)
		if diff := sameTable(t, pod); diff != "" {
			rt.Fatalf("-Kubernetes +Mainstay:\n%s", diff)
		}
	})
}

func anyPod(t *rapid.T) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named("web")}
	p.Spec.NodeName = rapid.SampledFrom([]string{"", "n1"}).Draw(t, "node")
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"", corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown}).Draw(t, "phase")
	p.Status.Reason = rapid.SampledFrom([]string{"", "", "", "Evicted", "NodeLost"}).Draw(t, "reason")
	p.Status.NominatedNodeName = rapid.SampledFrom([]string{"", "n2"}).Draw(t, "nominated")
	if rapid.Bool().Draw(t, "deleted") {
		p.DeletionTimestamp = ptr.To(ago(time.Minute))
	}
	p.Status.PodIP = rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.2"}).Draw(t, "address")
	if rapid.Bool().Draw(t, "addresses") {
		p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
	}
	for _, of := range []corev1.PodConditionType{corev1.PodReady, corev1.PodInitialized, corev1.PodScheduled, "example.com/gate"} {
		if status := rapid.SampledFrom([]corev1.ConditionStatus{"", corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, string(of)); status != "" {
			why := rapid.SampledFrom([]string{"", corev1.PodReasonSchedulingGated}).Draw(t, "why")
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: of, Status: status, Reason: why})
		}
	}
	if rapid.Bool().Draw(t, "gated") {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}, {ConditionType: "example.com/other"}}
	}
	p.Spec.InitContainers, p.Status.InitContainerStatuses = anyContainers(t, "init", 0)
	p.Spec.Containers, p.Status.ContainerStatuses = anyContainers(t, "app", 1)
	return p
}

// anyContainers may have no status for the last of them.
func anyContainers(t *rapid.T, prefix string, least int) (containers []corev1.Container, statuses []corev1.ContainerStatus) {
	n := rapid.IntRange(least, 3).Draw(t, prefix)
	for i := range n {
		c := corev1.Container{Name: fmt.Sprint(prefix, i)}
		if prefix == "init" && rapid.Bool().Draw(t, "sidecar") {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		}
		containers = append(containers, c)
	}
	for i := range rapid.IntRange(0, n).Draw(t, "known") {
		s := corev1.ContainerStatus{Name: containers[i].Name, Ready: rapid.Bool().Draw(t, "ready"), RestartCount: rapid.Int32Range(0, 3).Draw(t, "restarts"),
			State: anyState(t), LastTerminationState: anyState(t)}
		s.Started = rapid.SampledFrom([]*bool{nil, ptr.To(true), ptr.To(false)}).Draw(t, "started")
		statuses = append(statuses, s)
	}
	return containers, statuses
}

func anyState(t *rapid.T) corev1.ContainerState {
	reason := func(known ...string) string { return rapid.SampledFrom(append(known, "")).Draw(t, "reason") }
	switch rapid.IntRange(0, 3).Draw(t, "state") {
	case 0:
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason("CrashLoopBackOff", "PodInitializing", "ImagePullBackOff")}}
	case 1:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	case 2:
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: rapid.Int32Range(0, 1).Draw(t, "exit"), Signal: rapid.SampledFrom([]int32{0, 9}).Draw(t, "signal"), Reason: reason("Error", "Completed", "OOMKilled"),
			FinishedAt: rapid.SampledFrom([]metav1.Time{{}, ago(time.Hour), ago(3 * time.Hour)}).Draw(t, "finished"),
		}}
	}
	return corev1.ContainerState{}
}
