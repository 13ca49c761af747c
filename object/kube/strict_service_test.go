package kube

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNobodyDeclaresTheClustersOwnServices(t *testing.T) {
	for key, refused := range map[string]bool{
		"default/kubernetes": true, "shop/kubernetes": false, "kube-system/kube-dns": true, "default/kube-dns": false, "kube-system/kubernetes": false,
	} {
		namespace, name, _ := strings.Cut(key, "/")
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "mine",
			Labels: map[string]string{discoveryv1.LabelServiceName: name}}}
		for _, errs := range []string{fmt.Sprint(strictService(svc)), fmt.Sprint(strictEndpointSlice(slice))} {
			if strings.Contains(errs, "give yours another name") != refused {
				t.Errorf("%s: %q, want refused: %t", key, errs, refused)
			}
		}
	}
}
