package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/link"
)

func from(source corev1.EnvVarSource) corev1.EnvVar {
	return corev1.EnvVar{Name: "X", ValueFrom: &source}
}

func keyOf(name, key string, optional *bool) corev1.EnvVar {
	return from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}})
}

func secretKeyOf(name, key string, optional *bool) corev1.EnvVar {
	return from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}})
}

func fieldAt(path string) corev1.EnvVar {
	return from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}})
}

func amountOf(what string, divisor string) corev1.EnvVar {
	return from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: what, Divisor: resource.MustParse(divisor)}})
}

func TestEnvironment(t *testing.T) {
	pod := aPod("p", func(p *corev1.Pod) {
		p.Labels, p.Annotations, p.Spec.ServiceAccountName = map[string]string{"app": "web"}, map[string]string{"note": "n"}, "default"
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}, Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		}
	})
	s := sources{Pod: pod, PodIP: "10.244.1.2", HostIPs: []string{"192.0.2.1"}, Allocatable: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}
	s.take(&link.ConfigResponse{
		ConfigMaps: []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm"}, Data: map[string]string{"b": "2", "a": "1"}}},
		Secrets:    []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"key": []byte("canary")}}},
	})
	cm, secret, none := corev1.LocalObjectReference{Name: "cm"}, corev1.LocalObjectReference{Name: "s"}, corev1.LocalObjectReference{Name: "none"}
	for name, tc := range map[string]struct {
		from []corev1.EnvFromSource
		env  []corev1.EnvVar
		want []string
		err  string
	}{
		"plain, in order":       {nil, []corev1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}}, []string{"B=1", "A=2"}, ""},
		"references":            {nil, []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)$(C)"}, {Name: "C", Value: "3"}}, []string{"A=1", "B=1$(C)", "C=3"}, ""},
		"the last one counts":   {nil, []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "$(A)2"}}, []string{"A=12"}, ""},
		"all of a ConfigMap":    {[]corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: cm}}}, []corev1.EnvVar{{Name: "P_b", Value: "own"}, {Name: "C", Value: "$(P_a)"}}, []string{"P_a=1", "P_b=own", "C=1"}, ""},
		"all of a Secret":       {[]corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: secret}}}, nil, []string{"key=canary"}, ""},
		"ConfigMap missing":     {[]corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: none}}}, nil, nil, `configmap "none" not found`},
		"Secret missing":        {[]corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: none}}}, nil, nil, `secret "none" not found`},
		"optional ones missing": {[]corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: none, Optional: ptr.To(true)}}, {SecretRef: &corev1.SecretEnvSource{LocalObjectReference: none, Optional: ptr.To(true)}}}, nil, []string{}, ""},
		"key":                   {nil, []corev1.EnvVar{keyOf("cm", "a", nil)}, []string{"X=1"}, ""},
		"key missing":           {nil, []corev1.EnvVar{keyOf("cm", "z", nil)}, nil, "couldn't find key z in ConfigMap default/cm"},
		"optional key missing":  {nil, []corev1.EnvVar{keyOf("cm", "z", ptr.To(true)), keyOf("none", "z", ptr.To(true))}, []string{}, ""},
		"secret key":            {nil, []corev1.EnvVar{secretKeyOf("s", "key", nil)}, []string{"X=canary"}, ""},
		"secret key missing":    {nil, []corev1.EnvVar{secretKeyOf("s", "z", nil)}, nil, "couldn't find key z in Secret default/s"},
		"optional secret key":   {nil, []corev1.EnvVar{secretKeyOf("s", "z", ptr.To(true))}, []string{}, ""},
		"name":                  {nil, []corev1.EnvVar{fieldAt("metadata.name")}, []string{"X=p"}, ""},
		"uid":                   {nil, []corev1.EnvVar{fieldAt("metadata.uid")}, []string{"X=uid-p"}, ""},
		"label":                 {nil, []corev1.EnvVar{fieldAt("metadata.labels['app']")}, []string{"X=web"}, ""},
		"annotation":            {nil, []corev1.EnvVar{fieldAt("metadata.annotations['note']")}, []string{"X=n"}, ""},
		"node":                  {nil, []corev1.EnvVar{fieldAt("spec.nodeName")}, []string{"X=n1"}, ""},
		"account":               {nil, []corev1.EnvVar{fieldAt("spec.serviceAccountName")}, []string{"X=default"}, ""},
		"Pod address":           {nil, []corev1.EnvVar{fieldAt("status.podIP")}, []string{"X=10.244.1.2"}, ""},
		"host address":          {nil, []corev1.EnvVar{fieldAt("status.hostIP")}, []string{"X=192.0.2.1"}, ""},
		"unknown field":         {nil, []corev1.EnvVar{fieldAt("spec.nothing")}, nil, "spec.nothing"},
		"cpu limit":             {nil, []corev1.EnvVar{amountOf("limits.cpu", "1m")}, []string{"X=1500"}, ""},
		"cpu limit rounded up":  {nil, []corev1.EnvVar{amountOf("limits.cpu", "0")}, []string{"X=2"}, ""},
		"memory request":        {nil, []corev1.EnvVar{amountOf("requests.memory", "1Mi")}, []string{"X=64"}, ""},
		"limit not set":         {nil, []corev1.EnvVar{amountOf("limits.memory", "1Mi")}, []string{"X=1024"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := pod.Spec.Containers[0].DeepCopy()
			c.EnvFrom, c.Env = tc.from, tc.env
			got, err := environment(c, s)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("err = %v, want %q", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Error("the error holds a secret")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandReferencesAreResolved(t *testing.T) {
	c := &corev1.Container{Command: []string{"run", "$(A)"}, Args: []string{"--to=$(B)", "$(C)"}}
	command, args := commandOf(c, []string{"A=1", "B=x=y"})
	if diff := cmp.Diff([][]string{{"run", "1"}, {"--to=x=y", "$(C)"}}, [][]string{command, args}); diff != "" {
		t.Errorf("command and args (-want +got):\n%s", diff)
	}
}
