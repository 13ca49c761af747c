package object_test

import (
	"bytes"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

func TestEveryNameOfAKindFindsIt(t *testing.T) {
	for _, k := range object.Kinds() {
		for _, name := range append([]string{k.Resource, k.Kind, k.Singular(), k.Resource + "." + k.Group}, k.ShortNames...) {
			if k.Group == "" && name == k.Resource+"." {
				continue
			}
			if found, ok := object.ByName(name); !ok || found.Kind != k.Kind {
				t.Errorf("%q finds %s, want %s", name, found.Kind, k.Kind)
			}
		}
		if got := object.KindOf(k.New()); got.GroupVersionKind != k.GroupVersionKind {
			t.Errorf("a new %s is a %s", k.Kind, got.Kind)
		}
		if got, ok := object.ByGVK(k.GroupVersionKind); !ok || got.Resource != k.Resource {
			t.Errorf("%s is found as %q", k.GroupVersionKind, got.Resource)
		}
	}
	for _, name := range []string{"", "widgets", "pods.apps", "deployments.mainstay.dev"} {
		if found, ok := object.ByName(name); ok {
			t.Errorf("%q finds %s", name, found.Kind)
		}
	}
}

// P11: what readers are given of a Secret holds its keys and none of its values, and the stored object stays as it is.
func TestRedactionLeavesNoValue(t *testing.T) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: `{"data":{"k":"hunter2"}}`}},
		Data:       map[string][]byte{"k": []byte("hunter2")}, StringData: map[string]string{"k": "hunter2"},
	}
	source := &object.Source{Spec: object.SourceSpec{Declared: []byte("hunter2"), Path: "s.yaml"}}
	for _, obj := range []object.Object{secret, source} {
		before, _ := json.Marshal(obj)
		shown, err := json.Marshal(object.KindOf(obj).Redact(obj))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"hunter2", "aHVudGVyMg"} {
			if bytes.Contains(shown, []byte(form)) {
				t.Errorf("%T shows %s: %s", obj, form, shown)
			}
		}
		if after, _ := json.Marshal(obj); !bytes.Equal(before, after) {
			t.Errorf("redaction changed the stored %T", obj)
		}
	}
	if redacted := object.KindOf(secret).Redact(secret).(*corev1.Secret); len(redacted.Data) != 1 {
		t.Errorf("the keys are gone: %v", redacted.Data)
	}
}
