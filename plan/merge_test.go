package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
)

// declared is an object as a repository has it, with defaults.
func declared[T any, P interface {
	*T
	object.Object
}](t *testing.T, text string) P {
	t.Helper()
	obj := P(new(T))
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("bad test input: %v", err)
	}
	kube.Default(obj)
	return obj
}

const web = `
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "web:1"}]
`

func deployment(t *testing.T, text string, change func(*appsv1.Deployment)) *appsv1.Deployment {
	t.Helper()
	d := declared[appsv1.Deployment](t, text)
	if change != nil {
		change(d)
	}
	return d
}

func TestMergeLeavesAloneWhatGitNeverNamed(t *testing.T) {
	base := deployment(t, web, nil)
	want := deployment(t, web, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:2" })
	live := deployment(t, web, func(d *appsv1.Deployment) {
		d.Spec.Replicas = new(int32(7)) // a scaler's
		d.Annotations = map[string]string{"deployment.kubernetes.io/revision": "3"}
		d.ResourceVersion, d.UID, d.Status.Replicas = "12", "u", 7
	})
	got := plan.Merge(base, want, live)
	expected := live.DeepCopy()
	expected.Spec.Template.Spec.Containers[0].Image = "web:2"
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestMergeDropsWhatGitNoLongerNames(t *testing.T) {
	base := deployment(t, web, func(d *appsv1.Deployment) {
		d.Labels["old"], d.Spec.Replicas = "x", new(int32(4))
		d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	})
	want := deployment(t, web, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "B", Value: "2"}}
	})
	live := base.DeepCopy()
	live.Labels["by-hand"] = "y"
	got := plan.Merge(base, want, live).(*appsv1.Deployment)
	if diff := cmp.Diff(map[string]string{"app": "web", "by-hand": "y"}, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Spec, got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

// A default that depends on another field must follow it, else a cluster rebuilt from the repository differs from one that
// lived through its commits, and its Pods are not recognised.
func TestMergeLetsDefaultsFollow(t *testing.T) {
	base := deployment(t, web, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "web"
		d.Spec.Template.Spec.Containers[0].ImagePullPolicy = ""
		kube.Default(d)
	})
	if base.Spec.Template.Spec.Containers[0].ImagePullPolicy != corev1.PullAlways {
		t.Fatal("an image without a tag is not pulled always: the test shows nothing")
	}
	want := deployment(t, web, func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	})
	got := plan.Merge(base, want, base.DeepCopy())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestMergeTellsPortsApartByProtocol(t *testing.T) {
	const dns = `
metadata: {name: dns, namespace: default}
spec:
  selector: {app: dns}
  ports: [{name: udp, port: 53, protocol: UDP}, {name: tcp, port: 53, protocol: TCP}]
`
	base := declared[corev1.Service](t, dns)
	want := base.DeepCopy()
	want.Spec.Ports[1].TargetPort.IntVal = 5353
	live := base.DeepCopy()
	live.Spec.ClusterIP = "10.96.0.10"
	live.Spec.Ports[0].NodePort, live.Spec.Ports[1].NodePort = 30053, 30054
	got := plan.Merge(base, want, live)
	expected := live.DeepCopy()
	expected.Spec.Ports[1].TargetPort.IntVal = 5353
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestMergeSwitchesUnions(t *testing.T) {
	volume := func(v corev1.VolumeSource) func(d *appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: v}}
		}
	}
	base := deployment(t, web, volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	want := deployment(t, web, volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}}))
	got := plan.Merge(base, want, base.DeepCopy())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestMergeKeepsEntriesThatAreEmpty(t *testing.T) {
	config := func(data map[string]string) *corev1.ConfigMap { return &corev1.ConfigMap{Data: data} }
	got := plan.Merge(config(map[string]string{"a": "1"}), config(map[string]string{"a": "", "b": ""}), config(map[string]string{"a": "1", "b": "2", "c": "3"}))
	if diff := cmp.Diff(config(map[string]string{"a": "", "b": "", "c": "3"}), got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestMergeWithoutFormerDeclarationSetsWhatIsNamed(t *testing.T) {
	want := deployment(t, web, nil)
	live := deployment(t, web, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "other"
		d.Spec.Paused = true
	})
	got := plan.Merge(nil, want, live).(*appsv1.Deployment)
	if image := got.Spec.Template.Spec.Containers[0].Image; image != "web:1" || !got.Spec.Paused {
		t.Errorf("image = %q, paused = %v; want the declared image and what is not declared left alone", image, got.Spec.Paused)
	}
}
