package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mainstay-cluster/mainstay/plan"
)

// edit changes the template of a Deployment.
func edit(fn func(*corev1.PodSpec)) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { fn(&d.Spec.Template.Spec) }
}

func TestDiffNamesFields(t *testing.T) {
	const container = "spec.template.spec.containers[name=web]"
	for name, tc := range map[string]struct {
		given  func(*appsv1.Deployment) // what it is before, beside what every one is; may be nil
		change func(*appsv1.Deployment)
		want   []plan.FieldChange
	}{
		"nothing": {change: func(*appsv1.Deployment) {}},
		"status and versions are not the repository's": {change: func(d *appsv1.Deployment) {
			d.Status.Replicas, d.ResourceVersion, d.Generation = 3, "9", 4
		}},
		"a value": {
			change: func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) },
			want:   []plan.FieldChange{{Path: "spec.replicas", Old: "1", New: "0"}},
		},
		"an element of a list with keys": {
			change: edit(func(s *corev1.PodSpec) { s.Containers[0].Image = "web:2" }),
			want:   []plan.FieldChange{{Path: container + ".image", Old: `"web:1"`, New: `"web:2"`}},
		},
		"an element in front of others": {
			change: edit(func(s *corev1.PodSpec) {
				s.Containers = append([]corev1.Container{{Name: "log", Image: "log"}}, s.Containers...)
			}),
			want: []plan.FieldChange{
				{Path: "spec.template.spec.containers[name=log].image", New: `"log"`},
				{Path: "spec.template.spec.containers[name=log].name", New: `"log"`},
			},
		},
		"a list without keys changes as a whole": {
			change: edit(func(s *corev1.PodSpec) { s.Containers[0].Args = []string{"<a>", "b"} }),
			want:   []plan.FieldChange{{Path: container + ".args", New: `["<a>","b"]`}},
		},
		"the order of containers": {
			given: edit(func(s *corev1.PodSpec) {
				s.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}}
			}),
			change: edit(func(s *corev1.PodSpec) {
				s.InitContainers = []corev1.Container{{Name: "b"}, {Name: "a"}}
			}),
			want: []plan.FieldChange{{Path: "spec.template.spec.initContainers", Old: "order name=a name=b", New: "order name=b name=a"}},
		},
		"quantities are numbers": {
			change: edit(func(s *corev1.PodSpec) {
				s.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("0.5"), "memory": resource.MustParse("1Gi")}
			}),
			want: []plan.FieldChange{{Path: container + ".resources.requests.memory", New: `"1Gi"`}},
		},
		"something empty that means something": {
			change: edit(func(s *corev1.PodSpec) { s.SecurityContext = nil }),
			want:   []plan.FieldChange{{Path: "spec.template.spec.securityContext", Old: "{}"}},
		},
		"labels with dots": {
			change: func(d *appsv1.Deployment) { d.Labels["example.com/team"] = "" },
			want:   []plan.FieldChange{{Path: "metadata.labels[example.com/team]", New: `""`}},
		},
		"environment named like a secret": {
			change: edit(func(s *corev1.PodSpec) {
				s.Containers[0].Env = []corev1.EnvVar{{Name: "DB_PASSWORD", Value: "hunter2"}, {Name: "MODE", Value: "x"}}
			}),
			want: []plan.FieldChange{
				{Path: container + ".env[name=DB_PASSWORD].name", New: `"DB_PASSWORD"`},
				{Path: container + ".env[name=DB_PASSWORD].value", New: plan.Concealed},
				{Path: container + ".env[name=MODE].name", New: `"MODE"`},
				{Path: container + ".env[name=MODE].value", New: `"x"`},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := deployment(t, web, func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("500m")}
				if tc.given != nil {
					tc.given(d)
				}
			})
			after := before.DeepCopy()
			tc.change(after)
			if diff := cmp.Diff(tc.want, plan.Diff(before, after)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// P11: not a byte of a Secret reaches a plan.
func TestDiffNeverShowsSecrets(t *testing.T) {
	before := &corev1.Secret{Data: map[string][]byte{"old": []byte("one"), "both": []byte("two"), "": []byte("x")}, Type: "Opaque"}
	after := &corev1.Secret{Data: map[string][]byte{"new": []byte("three"), "both": []byte("four")}, Type: "other"}
	got := plan.Diff(before, after)
	want := []plan.FieldChange{
		{Path: "data.both", Old: plan.Concealed, New: plan.Concealed},
		{Path: "data.new", New: plan.Concealed},
		{Path: "data.old", Old: plan.Concealed},
		{Path: "data[]", Old: plan.Concealed},
		{Path: "type", Old: `"Opaque"`, New: `"other"`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if all := fmt.Sprint(plan.Diff(before, &corev1.Secret{})); strings.Contains(all, "b25l") || strings.Contains(all, "dHdv") {
		t.Errorf("a secret is shown: %s", all)
	}
}
