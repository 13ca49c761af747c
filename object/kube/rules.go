package kube

import (
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"

	"github.com/mainstay-cluster/mainstay/object"
)

// rules are how one kind is validated: create and update on the internal form, strict on the stored one.
type rules struct {
	create func(obj runtime.Object) field.ErrorList
	update func(obj, old runtime.Object) field.ErrorList
	strict func(obj object.Object) field.ErrorList
}

func rulesFor(obj object.Object) rules { return rulesByType[reflect.TypeOf(obj)] }

var rulesByType = map[reflect.Type]rules{
	reflect.TypeFor[*corev1.Namespace](): {
		create: only(corevalidation.ValidateNamespace),
		update: pair(corevalidation.ValidateNamespaceUpdate),
		strict: ofType(strictMeta[*corev1.Namespace]),
	},
	reflect.TypeFor[*corev1.ConfigMap](): {
		create: only(corevalidation.ValidateConfigMap),
		update: pair(corevalidation.ValidateConfigMapUpdate),
		strict: ofType(strictMeta[*corev1.ConfigMap]),
	},
	reflect.TypeFor[*corev1.Secret](): {
		create: only(corevalidation.ValidateSecret),
		update: pair(corevalidation.ValidateSecretUpdate),
		strict: ofType(strictMeta[*corev1.Secret]),
	},
	reflect.TypeFor[*corev1.Service](): {
		create: only(corevalidation.ValidateServiceCreate),
		update: pair(corevalidation.ValidateServiceUpdate),
		strict: ofType(strictService),
	},
	reflect.TypeFor[*corev1.Pod](): {
		create: only(createPod),
		update: pair(updatePod),
		strict: ofType(strictPod),
	},
	reflect.TypeFor[*appsv1.ReplicaSet](): {
		create: only(createReplicaSet),
		update: pair(updateReplicaSet),
		strict: ofType(strictReplicaSet),
	},
	reflect.TypeFor[*appsv1.Deployment](): {
		create: only(createDeployment),
		update: pair(updateDeployment),
		strict: ofType(strictDeployment),
	},
	reflect.TypeFor[*discoveryv1.EndpointSlice](): {
		create: only(discoveryvalidation.ValidateEndpointSliceCreate),
		update: pair(discoveryvalidation.ValidateEndpointSliceUpdate),
		strict: ofType(strictEndpointSlice),
	},
	reflect.TypeFor[*networkingv1.NetworkPolicy](): {
		create: only(createNetworkPolicy),
		update: pair(updateNetworkPolicy),
		strict: ofType(strictMeta[*networkingv1.NetworkPolicy]),
	},
	reflect.TypeFor[*corev1.Node](): {create: only(createNode), update: pair(corevalidation.ValidateNodeUpdate)},
	reflect.TypeFor[*policyv1.PodDisruptionBudget](): {
		create: only(createBudget),
		update: pair(updateBudget),
		strict: ofType(strictMeta[*policyv1.PodDisruptionBudget]),
	},
	reflect.TypeFor[*object.Cluster](): {create: only(validateCluster), update: pair(updateCluster)},
}

// only, pair and ofType let a rule for one type stand in a table of rules for all.
func only[T runtime.Object](rule func(T) field.ErrorList) func(runtime.Object) field.ErrorList {
	return func(obj runtime.Object) field.ErrorList { return rule(obj.(T)) }
}

func pair[T runtime.Object](rule func(obj, old T) field.ErrorList) func(obj, old runtime.Object) field.ErrorList {
	return func(obj, old runtime.Object) field.ErrorList { return rule(obj.(T), old.(T)) }
}

func ofType[T object.Object](rule func(T) field.ErrorList) func(object.Object) field.ErrorList {
	return func(obj object.Object) field.ErrorList { return rule(obj.(T)) }
}

// The functions below do what the strategies of Kubernetes' registry do, which cannot be imported without its storage.

func createPod(p *core.Pod) field.ErrorList {
	opts := pod.GetValidationOptionsFromPodSpecAndMeta(&p.Spec, nil, &p.ObjectMeta, nil)
	opts.ResourceIsPod = true
	return corevalidation.ValidatePodCreate(p, opts)
}

func updatePod(p, old *core.Pod) field.ErrorList {
	opts := pod.GetValidationOptionsFromPodSpecAndMeta(&p.Spec, &old.Spec, &p.ObjectMeta, &old.ObjectMeta)
	opts.ResourceIsPod = true
	return corevalidation.ValidatePodUpdate(p, old, opts)
}

func createReplicaSet(rs *apps.ReplicaSet) field.ErrorList {
	return appsvalidation.ValidateReplicaSet(rs, pod.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, nil))
}

func updateReplicaSet(rs, old *apps.ReplicaSet) field.ErrorList {
	opts := pod.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, &old.Spec.Template)
	return appsvalidation.ValidateReplicaSetUpdate(rs, old, opts)
}

func createDeployment(d *apps.Deployment) field.ErrorList {
	return appsvalidation.ValidateDeployment(d, pod.GetValidationOptionsFromPodTemplate(&d.Spec.Template, nil))
}

func updateDeployment(d, old *apps.Deployment) field.ErrorList {
	opts := pod.GetValidationOptionsFromPodTemplate(&d.Spec.Template, &old.Spec.Template)
	return appsvalidation.ValidateDeploymentUpdate(d, old, opts)
}

func createNetworkPolicy(p *networking.NetworkPolicy) field.ErrorList {
	return networkingvalidation.ValidateNetworkPolicy(p, networkingvalidation.ValidationOptionsForNetworking(p, nil))
}

func updateNetworkPolicy(p, old *networking.NetworkPolicy) field.ErrorList {
	return networkingvalidation.ValidateNetworkPolicyUpdate(p, old, networkingvalidation.ValidationOptionsForNetworking(p, old))
}

func createBudget(b *policy.PodDisruptionBudget) field.ErrorList {
	errs := corevalidation.ValidateObjectMeta(&b.ObjectMeta, true, corevalidation.ValidatePodName, field.NewPath("metadata"))
	return append(errs, policyvalidation.ValidatePodDisruptionBudget(b, policyvalidation.PodDisruptionBudgetValidationOptions{})...)
}

func updateBudget(b, old *policy.PodDisruptionBudget) field.ErrorList {
	errs := corevalidation.ValidateObjectMetaUpdate(&b.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	return append(errs, createBudget(b)...)
}

// createNode is also strict about what a repository may say: an update is of a node that agents and servers have written to.
func createNode(n *core.Node) field.ErrorList {
	errs := append(corevalidation.ValidateNode(n), reservedKeys(field.NewPath("metadata"), n.Labels, n.Annotations)...)
	for _, label := range agentLabels {
		if _, declared := n.Labels[label]; declared {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "labels").Key(label), "is what the node's agent says of its machine: remove it"))
		}
	}
	for i, taint := range n.Spec.Taints {
		if strings.HasPrefix(taint.Key, lifeTaintPrefix) {
			errs = append(errs, field.Forbidden(field.NewPath("spec", "taints").Index(i).Child("key"),
				"taints under "+lifeTaintPrefix+" say what the cluster finds out about a node: use another key"))
		}
	}
	return errs
}

// agentLabels are written by agents at every registration.
var agentLabels = []string{corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable}

const lifeTaintPrefix = "node.kubernetes.io/"
