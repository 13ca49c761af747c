package api

import (
	"context"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// nodeConfig gives a node the ConfigMaps and Secrets that one of its Pods refers to. It is the only way by which the value
// of a Secret leaves the store, and it leads to the node that needs it alone.
func (a *API) nodeConfig(ctx context.Context, id Identity, req link.ConfigRequest) (link.ConfigResponse, error) {
	if err := itself(id, req.Node); err != nil {
		return link.ConfigResponse{}, err
	}
	view, err := a.consistent(ctx)
	if err != nil {
		return link.ConfigResponse{}, err
	}
	pod, ok := boundPod(view, req.Node, req.Pod)
	if !ok {
		return link.ConfigResponse{}, forbidden("Pod " + req.Pod.Namespace + "/" + req.Pod.Name + " is not bound to node " + req.Node)
	}
	wanted, ok := wantedSpec(view, pod)
	if !ok {
		return link.ConfigResponse{}, apierrors.NewServiceUnavailable("it is not known yet what declares Pod " + req.Pod.Namespace + "/" + req.Pod.Name)
	}
	var resp link.ConfigResponse
	configMaps, secrets := references(wanted)
	for _, name := range configMaps {
		if cm, ok := state.Get[*corev1.ConfigMap](view, state.Key{Namespace: pod.Namespace, Name: name}); ok {
			resp.ConfigMaps = append(resp.ConfigMaps, *cm)
		}
	}
	for _, name := range secrets {
		if secret, ok := state.Get[*corev1.Secret](view, state.Key{Namespace: pod.Namespace, Name: name}); ok {
			resp.Secrets = append(resp.Secrets, *secret)
		}
	}
	return resp, nil
}

// wantedSpec is what Git makes of a Pod's spec. A Pod that only a node has spoken of, while it was taken in, proves nothing:
// a node could name any Secret in it. So what counts is the template of its ReplicaSet, or that it is declared itself.
func wantedSpec(view state.Reader, pod *corev1.Pod) (*corev1.PodSpec, bool) {
	if ref := metav1.GetControllerOf(pod); ref != nil {
		owner, ok := state.Get[*appsv1.ReplicaSet](view, state.Key{Namespace: pod.Namespace, Name: ref.Name})
		if !ok || owner.UID != ref.UID {
			return nil, false
		}
		return &owner.Spec.Template.Spec, true
	}
	return &pod.Spec, traceOf(view, pod).declared()
}

// references lists the names of the ConfigMaps and Secrets that a Pod uses, sorted.
func references(spec *corev1.PodSpec) (configMaps, secrets []string) {
	configMapNames, secretNames := map[string]bool{}, map[string]bool{}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			containerReferences(&list[i], configMapNames, secretNames)
		}
	}
	for _, s := range spec.ImagePullSecrets {
		secretNames[s.Name] = true
	}
	return slices.Sorted(maps.Keys(configMapNames)), slices.Sorted(maps.Keys(secretNames))
}

func containerReferences(c *corev1.Container, configMaps, secrets map[string]bool) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			configMaps[from.ConfigMapRef.Name] = true
		}
		if from.SecretRef != nil {
			secrets[from.SecretRef.Name] = true
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			configMaps[ref.Name] = true
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			secrets[ref.Name] = true
		}
	}
}
