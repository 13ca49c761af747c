package kube

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
)

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "hello:1"}}}
}

func deployment() *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()}
	Default(d)
	return d
}

func barePod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: podSpec()}
	Default(p)
	return p
}

func service(ip string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	svc.Spec.ClusterIP = ip
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	Default(svc)
	return svc
}

func messages(kind string, errs field.ErrorList) []string {
	var lines []string
	for _, err := range errs {
		lines = append(lines, err.Field+": "+Message(kind, err))
	}
	return lines
}

func TestDefaultIsKubernetes(t *testing.T) {
	d := deployment()
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.RollingUpdate.MaxSurge.String() != "25%" || *d.Spec.ProgressDeadlineSeconds != 600 {
		t.Errorf("spec = %+v", d.Spec)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if c.ImagePullPolicy != corev1.PullIfNotPresent || c.TerminationMessagePath != "/dev/termination-log" {
		t.Errorf("container = %+v", c)
	}
	policy := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{
		Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{}}}}}}
	Default(policy)
	if got := policy.Spec; len(got.PolicyTypes) != 2 || *got.Egress[0].Ports[0].Protocol != corev1.ProtocolTCP {
		t.Errorf("policy = %+v", got)
	}
	if got := service("10.96.0.7").Spec.ClusterIPs; !reflect.DeepEqual(got, []string{"10.96.0.7"}) {
		t.Errorf("clusterIPs = %v", got)
	}
}

func TestDefaultOfCluster(t *testing.T) {
	c := &object.Cluster{Spec: object.ClusterSpec{PodCIDR: "10.1.0.0/16"}}
	Default(c)
	if want := (object.ClusterSpec{PodCIDR: "10.1.0.0/16", ServiceCIDR: DefaultServiceCIDR, EvictAfter: &metav1.Duration{Duration: DefaultEvictAfter}}); !reflect.DeepEqual(c.Spec, want) {
		t.Errorf("spec = %+v", c.Spec)
	}
}

func TestValidateLeavesTheObjectAlone(t *testing.T) {
	for _, obj := range []object.Object{deployment(), barePod(), service("10.96.0.7")} {
		before := obj.DeepCopyObject()
		if errs := Validate(obj); len(errs) > 0 {
			t.Errorf("%T: %v", obj, errs)
		}
		if diff := cmp.Diff(before, obj.DeepCopyObject()); diff != "" {
			t.Errorf("%T changed:\n%s", obj, diff)
		}
	}
}

func TestValidateUpdateKeepsWhatMustNotChange(t *testing.T) {
	cluster := func(cidr string) *object.Cluster {
		c := &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: object.ClusterSpec{PodCIDR: cidr}}
		Default(c)
		return c
	}
	secret := func(kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, Type: kind}
	}
	selector := deployment()
	selector.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	selector.Spec.Template.Labels = map[string]string{"app": "other"}
	command := barePod()
	command.Spec.Containers[0].Command = []string{"other"}
	image := barePod()
	image.Spec.Containers[0].Image = "hello:2"
	for name, tc := range map[string]struct {
		obj, old object.Object
		want     string // part of the only error; "" for none
	}{
		"same":        {deployment(), deployment(), ""},
		"selector":    {selector, deployment(), "spec.selector: field is immutable"},
		"pod image":   {image, barePod(), ""},
		"pod command": {command, barePod(), "spec: pod updates may not change fields other than"},
		"clusterIP":   {service("10.96.0.8"), service("10.96.0.7"), "spec.clusterIPs[0]: may not change once set"},
		"podCIDR":     {cluster("10.1.0.0/16"), cluster("10.2.0.0/16"), "spec.podCIDR: field is immutable"},
		"secret type": {secret(corev1.SecretTypeOpaque), secret("a/b"), "type: field is immutable"},
	} {
		t.Run(name, func(t *testing.T) {
			// What the store gives is on the old object alone.
			tc.old.SetUID("0815")
			tc.old.SetResourceVersion("7")
			got := strings.Join(messages("", ValidateUpdate(tc.obj, tc.old)), "\n")
			if (tc.want == "") != (got == "") || !strings.HasPrefix(got, tc.want) || strings.Contains(got, "\n") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEveryDeclarableKindIsValidatedAndListed(t *testing.T) {
	listed := map[string]bool{}
	for _, k := range supported() {
		listed[k.Kind.Kind] = true
	}
	for _, k := range object.Kinds() {
		if k.Declarable && (!listed[k.Kind] || rulesFor(k.New()).create == nil) {
			t.Errorf("%s has no fields or no rules", k.Kind)
		}
		if got := Validate(k.New()); k.Declarable && len(got) == 0 {
			t.Errorf("an empty %s is valid", k.Kind)
		}
	}
}

// TestFieldsExist finds words in fields.txt that no kind has.
func TestFieldsExist(t *testing.T) {
	for _, k := range supported() {
		for _, f := range k.Fields {
			if err := follow(reflect.TypeOf(k.Kind.New()).Elem(), f.Path); err != "" {
				t.Errorf("%s %s: %s", k.Kind.Kind, f.Path, err)
			}
		}
	}
}

func follow(t reflect.Type, path string) string {
	for _, step := range strings.Split(path, ".") {
		step, list := strings.CutSuffix(step, "[]")
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map {
			t = t.Elem()
			continue
		}
		next, ok := jsonField(t, step)
		if !ok {
			return "no field " + step
		}
		if t = next; list != (t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8) {
			return step + " is or is not a list"
		}
		if list {
			t = t.Elem()
		}
	}
	return ""
}

func jsonField(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name {
			return f.Type, true
		}
		if tag == "" && f.Anonymous {
			if found, ok := jsonField(f.Type, name); ok {
				return found, true
			}
		}
	}
	return nil, false
}

func TestUnsupported(t *testing.T) {
	kind := object.KindFor[*corev1.Pod]()
	raw := map[string]any{
		"spec": map[string]any{
			"automountServiceAccountToken": true,
			"setHostnameAsFQDN":            true,
			"priorityClassName":            nil,
			"runtimeClassName":             "x",
			"containers":                   []any{map[string]any{"name": "a", "ports": []any{map[string]any{"protocol": "SCTP"}}, "volumeDevices": []any{}}},
			"volumes":                      []any{map[string]any{"name": "v", "emptyDir": map[string]any{}}, map[string]any{"secret": map[string]any{}}},
		},
		"status": map[string]any{},
	}
	want := []string{
		"spec.automountServiceAccountToken", "spec.containers[0].ports[0].protocol", "spec.containers[0].volumeDevices",
		"spec.runtimeClassName", "spec.volumes[1].secret",
	}
	var got []string
	for _, err := range Unsupported(kind, raw) {
		got = append(got, err.Field)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNameserversThatNobodyWouldAsk(t *testing.T) {
	for name, tc := range map[string]struct {
		policy  corev1.DNSPolicy
		host    bool
		servers []string
		fine    bool
	}{
		"two beside the cluster's":   {corev1.DNSClusterFirst, false, []string{"192.0.2.1", "192.0.2.2"}, true},
		"three beside the cluster's": {corev1.DNSClusterFirst, false, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, false},
		"on the host's network":      {corev1.DNSClusterFirst, true, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, true},
		"there with the cluster's":   {corev1.DNSClusterFirstWithHostNet, true, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, false},
		"three alone":                {corev1.DNSNone, false, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, true},
		"none alone":                 {corev1.DNSNone, false, nil, false},
	} {
		p := barePod()
		p.Spec.DNSPolicy, p.Spec.HostNetwork, p.Spec.DNSConfig = tc.policy, tc.host, &corev1.PodDNSConfig{Nameservers: tc.servers}
		if got := messages("Pod", Validate(p)); (len(got) == 0) != tc.fine {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMessageHidesSecrets(t *testing.T) {
	at := field.NewPath("spec", "containers").Index(0).Child("env").Index(1).Child("value")
	for kind, err := range map[string]*field.Error{
		"Pod":    field.Invalid(at, "hunter2", "is wrong"),
		"Secret": field.Invalid(field.NewPath("data").Key("a"), "hunter2", "is wrong"),
	} {
		if got := Message(kind, err); got != "is wrong" {
			t.Errorf("%s: %q", kind, got)
		}
	}
	if got := Message("Pod", field.Invalid(field.NewPath("spec", "hostname"), "A\x1b[31m", "is wrong")); got != `is wrong (got "A·[31m")` {
		t.Errorf("got %s", got)
	}
}
