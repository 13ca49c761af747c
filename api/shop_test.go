package api_test

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
)

const (
	canary = "c4n4ry-s3cr3t-value" // planted wherever a secret may stand
	commit = "0123456789abcdef0123456789abcdef01234567"
)

// shop is a small cluster: one Deployment of two Pods on a node, and what belongs to it, all nine hours old.
func shop() []object.Object {
	created := metav1.NewTime(time.Now().Add(-9 * time.Hour).Truncate(time.Second))
	meta := func(namespace, name string, owners ...metav1.OwnerReference) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID("uid-" + name), CreationTimestamp: created,
			Labels: map[string]string{"app": "web"}, OwnerReferences: owners,
		}
	}
	owner := func(apiVersion, kind, name string) metav1.OwnerReference {
		yes := true
		return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: &yes}
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: webSpec("")}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	two := int32(2)

	deployment := &appsv1.Deployment{
		ObjectMeta: meta("shop", "web"),
		Spec:       appsv1.DeploymentSpec{Replicas: &two, Selector: selector, Template: template, Strategy: rolling()},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 1, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2,
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"}},
		},
	}
	deployment.Annotations = map[string]string{"deployment.kubernetes.io/revision": "1"}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: meta("shop", "web-5d4f8", owner("apps/v1", "Deployment", "web")),
		Spec:       appsv1.ReplicaSetSpec{Replicas: &two, Selector: selector, Template: template},
		Status:     appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, FullyLabeledReplicas: 2, ObservedGeneration: 1},
	}
	rs.Annotations = map[string]string{"deployment.kubernetes.io/revision": "1"}
	objects := []object.Object{
		&object.Cluster{ObjectMeta: meta("", "home"), Status: object.ClusterStatus{Repo: "https://git.example/shop.git", Branch: "main", Path: "deploy"}},
		&corev1.Namespace{ObjectMeta: meta("", "default"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}},
		&corev1.Namespace{ObjectMeta: meta("", "shop"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}},
		shopNode(meta("", "n1")),
		&corev1.ConfigMap{ObjectMeta: meta("shop", "settings"), Data: map[string]string{"colour": "green"}},
		shopSecret(meta("shop", "db")),
		&corev1.Service{ObjectMeta: meta("shop", "web"), Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}, Selector: selector.MatchLabels,
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
		}},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", CreationTimestamp: created, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.2"}}},
		},
		deployment, rs,
		source(meta("shop", "deployments.web"), "apps/v1", "Deployment", "web", "apps/web.yaml", 12),
		source(meta("shop", "secrets.db"), "v1", "Secret", "db", "apps/db.yaml", 1),
		source(meta("", "namespaces.shop"), "v1", "Namespace", "shop", "shop.yaml", 3),
		&object.Revision{ObjectMeta: meta("", "0123456789ab"),
			Spec:   object.RevisionSpec{Commit: commit, Author: "Ada <ada@example.org>", Subject: "more colour", Branch: "main", Sequence: 1},
			Status: object.RevisionStatus{Phase: object.RevisionConverged, Created: 7}},
	}
	for i, name := range []string{"web-5d4f8-aaaaa", "web-5d4f8-bbbbb"} {
		p := &corev1.Pod{
			ObjectMeta: meta("shop", name, owner("apps/v1", "ReplicaSet", "web-5d4f8")),
			Spec:       webSpec("n1"), Status: runningStatus(created, i),
		}
		objects = append(objects, p)
	}
	return append(objects, &corev1.Event{
		ObjectMeta:     meta("shop", "web-5d4f8-aaaaa.1"),
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web-5d4f8-aaaaa", UID: "uid-web-5d4f8-aaaaa"},
		Reason:         "Started", Message: "Started container main", Type: corev1.EventTypeNormal, Count: 1,
		Source: corev1.EventSource{Component: "agent", Host: "n1"}, FirstTimestamp: created, LastTimestamp: created,
	})
}

func rolling() appsv1.DeploymentStrategy {
	quarter := intstr.FromString("25%")
	return appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter},
	}
}

func webSpec(node string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyAlways,
		Containers: []corev1.Container{{
			Name: "main", Image: "shop/web:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			Env: []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "password"}}}},
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		}},
	}
}

func runningStatus(since metav1.Time, i int) corev1.PodStatus {
	yes := true
	return corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: []string{"10.244.0.2", "10.244.0.3"}[i], HostIP: "192.0.2.1", StartTime: &since,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Ready: true, Started: &yes, Image: "shop/web:1", RestartCount: int32(i),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}},
		}},
	}
}

func shopNode(meta metav1.ObjectMeta) *corev1.Node {
	meta.Annotations = map[string]string{"mainstay.dev/address": "n1.example:7444"}
	amounts := corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("110")}
	return &corev1.Node{
		ObjectMeta: meta,
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24"}},
		Status: corev1.NodeStatus{
			Capacity: amounts, Allocatable: amounts,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.0", OSImage: "Debian", KernelVersion: "6", ContainerRuntimeVersion: "docker://20"},
		},
	}
}

func shopSecret(meta metav1.ObjectMeta) *corev1.Secret {
	meta.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: `{"data":"` + canary + `"}`}
	return &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"password": []byte(canary)}}
}

func source(meta metav1.ObjectMeta, apiVersion, kind, name, path string, line int) *object.Source {
	return &object.Source{ObjectMeta: meta, Spec: object.SourceSpec{
		APIVersion: apiVersion, Kind: kind, Name: name, Commit: commit, Author: "Ada <ada@example.org>", Path: path, Line: line,
		Declared: []byte(`{"data":"` + canary + `"}`),
	}}
}
