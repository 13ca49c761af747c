package podcontrol

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSelects(t *testing.T) {
	app := map[string]string{"app": "web"}
	in := metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}
	for name, tc := range map[string]struct {
		selector *metav1.LabelSelector
		labels   map[string]string
		want     bool
	}{
		"nil selects nothing":     {nil, app, false},
		"empty selects nothing":   {&metav1.LabelSelector{}, app, false},
		"label":                   {&metav1.LabelSelector{MatchLabels: app}, map[string]string{"app": "web", "x": "y"}, true},
		"other value":             {&metav1.LabelSelector{MatchLabels: app}, map[string]string{"app": "db"}, false},
		"no labels":               {&metav1.LabelSelector{MatchLabels: app}, nil, false},
		"expression":              {&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{in}}, map[string]string{"tier": "b"}, true},
		"label but no expression": {&metav1.LabelSelector{MatchLabels: app, MatchExpressions: []metav1.LabelSelectorRequirement{in}}, app, false},
		"malformed":               {&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "?"}}}, app, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Selects(tc.selector, tc.labels); got != tc.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestPodFromTemplateHasTheDefaultsOfAPod(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	for name, tc := range map[string]struct {
		resources corev1.ResourceRequirements
		want      corev1.PodQOSClass
	}{
		"nothing asked":  {corev1.ResourceRequirements{}, corev1.PodQOSBestEffort},
		"limits alone":   {corev1.ResourceRequirements{Limits: list("1", "1Gi")}, corev1.PodQOSGuaranteed},
		"requests alone": {corev1.ResourceRequirements{Requests: list("1", "1Gi")}, corev1.PodQOSBurstable},
		"both differ":    {corev1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("2", "1Gi")}, corev1.PodQOSBurstable},
	} {
		t.Run(name, func(t *testing.T) {
			template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{
				Resources: tc.resources, Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}}
			owner := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a-name-that-is-much-longer-than-the-fifty-eight-characters-allowed"}}
			pod := FromTemplate(template, owner)
			if pod.Status.QOSClass != tc.want || pod.Status.Phase != corev1.PodPending {
				t.Errorf("status %+v", pod.Status)
			}
			if pod.Spec.Containers[0].Ports[0].HostPort != 80 || !*pod.Spec.EnableServiceLinks || len(pod.GenerateName) != 58 {
				t.Errorf("%s: %+v", pod.GenerateName, pod.Spec)
			}
			if request := pod.Spec.Containers[0].Resources.Requests.Cpu(); tc.resources.Limits != nil && request.IsZero() {
				t.Error("nothing is requested although there is a limit")
			}
			if template.Spec.EnableServiceLinks != nil || template.Spec.Containers[0].Ports[0].HostPort != 0 {
				t.Error("the template was changed")
			}
		})
	}
}
